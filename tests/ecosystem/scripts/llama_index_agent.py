"""A FunctionAgent of LlamaIndex, streamed; the argument is the provider."""

import asyncio
import json
import os
import sys

from llama_index.core.agent.workflow import AgentStream, FunctionAgent

text, calls = "", []


def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


def make_llm(provider):
    if provider == "openai":
        from llama_index.llms.openai import OpenAI

        return OpenAI(model="gpt-4o")
    if provider == "openai-responses":
        from llama_index.llms.openai import OpenAIResponses

        return OpenAIResponses(model="gpt-4o")
    if provider == "anthropic":
        from llama_index.llms.anthropic import Anthropic

        return Anthropic(model="claude-sonnet-4-5")
    if provider == "google":
        from llama_index.llms.google_genai import GoogleGenAI

        return GoogleGenAI(model="gemini-3")
    from llama_index.llms.ollama import Ollama

    return Ollama(model="m", base_url=os.environ["PROVIDER_URL"], request_timeout=300)


async def main():
    global text
    agent = FunctionAgent(tools=[get_weather], llm=make_llm(sys.argv[1]))
    handler = agent.run("What is the weather in Oslo?")
    async for event in handler.stream_events():
        if isinstance(event, AgentStream):
            text += event.delta or ""
    await handler
    print(json.dumps({"text": text, "calls": calls}))


asyncio.run(main())
