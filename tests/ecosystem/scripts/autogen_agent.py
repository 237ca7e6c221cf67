"""An AssistantAgent of AutoGen, streamed; the argument is the provider."""

import asyncio
import json
import re
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent

text, calls = "", []
INFO = {"vision": False, "function_calling": True, "json_output": False, "family": "unknown"}
INFO["structured_output"] = False


async def get_weather(city: str) -> str:
    """Get the weather."""
    calls.append(["get_weather", {"city": city}])
    return "rain"


def make_client(provider):
    if provider == "openai":
        from autogen_ext.models.openai import OpenAIChatCompletionClient

        return OpenAIChatCompletionClient(model="m", model_info=INFO)
    if provider == "anthropic":
        from autogen_ext.models.anthropic import AnthropicChatCompletionClient

        return AnthropicChatCompletionClient(model="m", model_info=INFO)
    from autogen_ext.models.ollama import OllamaChatCompletionClient

    return OllamaChatCompletionClient(model="m", model_info=INFO)


async def main():
    global text
    client = make_client(sys.argv[1])
    agent = AssistantAgent(
        "helper",
        model_client=client,
        tools=[get_weather],
        model_client_stream=True,
        reflect_on_tool_use=True,
    )
    async for event in agent.run_stream(task="What is the weather in Oslo?"):
        if isinstance(event, ModelClientStreamingChunkEvent):
            text += event.content
    await client.close()
    text = re.sub("<think>.*?</think>", "", text)  # as it shows reasoning
    kind = "reasoning_and_text" if sys.argv[1] == "anthropic" else "text"  # as it shows both
    print(json.dumps({kind: text, "calls": calls}))


asyncio.run(main())
