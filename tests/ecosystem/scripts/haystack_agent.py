"""An agent of Haystack, streamed; the argument is the provider."""

import json
import sys

from haystack.components.agents import Agent
from haystack.dataclasses import ChatMessage
from haystack.tools import tool

text, calls = "", []


@tool
def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


def make_generator(provider):
    if provider == "openai":
        from haystack.components.generators.chat import OpenAIChatGenerator

        return OpenAIChatGenerator(model="m")
    if provider == "anthropic":
        from haystack_integrations.components.generators.anthropic import AnthropicChatGenerator

        return AnthropicChatGenerator(model="m")
    if provider == "google":
        from haystack_integrations.components.generators.google_genai import (
            GoogleGenAIChatGenerator,
        )

        return GoogleGenAIChatGenerator(model="gemini-3")
    import os

    from haystack_integrations.components.generators.ollama import OllamaChatGenerator

    return OllamaChatGenerator(model="m", url=os.environ["PROVIDER_URL"])


def take(chunk):
    global text
    text += chunk.content or ""


agent = Agent(
    chat_generator=make_generator(sys.argv[1]), tools=[get_weather], streaming_callback=take
)
agent.run(messages=[ChatMessage.from_user("What is the weather in Oslo?")])
print(json.dumps({"text": text, "calls": calls}))
