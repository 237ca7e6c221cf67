"""An agent of LangChain on LangGraph, its messages streamed; the argument is the provider."""

import json
import os
import sys

from langchain.agents import create_agent

text, calls = "", []


def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


def make_model(provider):
    if provider == "openai":
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model="m")
    if provider == "openai-responses":
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model="m", use_responses_api=True)
    if provider == "anthropic":
        from langchain_anthropic import ChatAnthropic

        return ChatAnthropic(model="claude-sonnet-4-5")
    if provider == "google":
        from langchain_google_genai import ChatGoogleGenerativeAI

        return ChatGoogleGenerativeAI(model="gemini-3")
    if provider == "ollama":
        from langchain_ollama import ChatOllama

        return ChatOllama(model="m")
    if provider == "mistral":
        from langchain_mistralai import ChatMistralAI

        return ChatMistralAI(model="m", base_url=os.environ["PROVIDER_URL"] + "/mistral/v1")
    if provider == "groq":
        from langchain_groq import ChatGroq

        return ChatGroq(model="m", base_url=os.environ["PROVIDER_URL"] + "/groq")
    if provider == "cohere":
        from langchain_cohere import ChatCohere

        return ChatCohere(model="command-a", base_url=os.environ["PROVIDER_URL"])
    from langchain_aws import ChatBedrockConverse

    return ChatBedrockConverse(model="anthropic.claude-sonnet-4-20250514-v1:0")


agent = create_agent(make_model(sys.argv[1]), [get_weather])
question = {"messages": [{"role": "user", "content": "What is the weather in Oslo?"}]}
for message, _ in agent.stream(question, stream_mode="messages"):
    if message.type == "AIMessageChunk":
        text += message.text if isinstance(message.text, str) else message.text()
print(json.dumps({"text": text, "calls": calls}))
