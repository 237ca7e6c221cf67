"""An agent of Strands, streamed; the argument is the provider."""

import asyncio
import json
import sys

from strands import Agent, tool

text, calls = "", []


@tool
def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


def make_model(provider):
    if provider == "bedrock":
        from strands.models import BedrockModel

        return BedrockModel(model_id="anthropic.claude-sonnet-4-20250514-v1:0")
    if provider == "anthropic":
        from strands.models.anthropic import AnthropicModel

        return AnthropicModel(model_id="m", max_tokens=1000)
    if provider == "openai":
        from strands.models.openai import OpenAIModel

        return OpenAIModel(model_id="m")
    from strands.models.ollama import OllamaModel

    return OllamaModel(host=None, model_id="m")


async def main():
    global text
    agent = Agent(model=make_model(sys.argv[1]), tools=[get_weather], callback_handler=None)
    async for event in agent.stream_async("What is the weather in Oslo?"):
        text += event.get("data", "")
    print(json.dumps({"text": text, "calls": calls}))


asyncio.run(main())
