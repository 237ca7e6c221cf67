"""An agent of Semantic Kernel, streamed; the argument is the provider."""

import asyncio
import json
import sys

from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.functions import kernel_function

text, calls = "", []


class Weather:
    @kernel_function(name="get_weather", description="Get the weather.")
    def get_weather(self, city: str) -> str:
        calls.append(["get_weather", {"city": city}])
        return "rain"


def make_service(provider):
    if provider == "openai":
        from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

        return OpenAIChatCompletion(ai_model_id="m")
    if provider == "anthropic":
        from semantic_kernel.connectors.ai.anthropic import AnthropicChatCompletion

        return AnthropicChatCompletion(ai_model_id="m")
    if provider == "google":
        from semantic_kernel.connectors.ai.google.google_ai import GoogleAIChatCompletion

        return GoogleAIChatCompletion(gemini_model_id="gemini-3", api_key="x")
    from semantic_kernel.connectors.ai.ollama import OllamaChatCompletion

    return OllamaChatCompletion(ai_model_id="m")


async def main():
    global text
    agent = ChatCompletionAgent(
        service=make_service(sys.argv[1]), name="helper", plugins=[Weather()]
    )
    async for reply in agent.invoke_stream(messages="What is the weather in Oslo?"):
        text += str(reply.content)
    # The model's thoughts come as text from Gemini.
    kind = "reasoning_and_text" if sys.argv[1] == "google" else "text"
    print(json.dumps({kind: text, "calls": calls}))


asyncio.run(main())
