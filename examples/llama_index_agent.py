"""A LlamaIndex agent with a tool; a screen watches it, and shows one run as one message.

    pip install "tokenwire[llama-index]" llama-index-llms-openai
    python examples/llama_index_agent.py

With $OPENAI_API_KEY set it talks to OpenAI; without, to a provider that it starts itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.instrumentation import (  # type: ignore[attr-defined]
    get_dispatcher,  # pyright: ignore[reportPrivateImportUsage]
)
from llama_index.llms.openai import OpenAI

import tokenwire
from tokenwire_adapters.llama_index import TokenwireEventHandler
from tokenwire_adapters.testing.provider import serve_in_thread

CHANNEL = "chat-42"
QUESTION = "What is the weather in Paris?"


@contextlib.contextmanager
def provider() -> Generator[dict[str, Any], None, None]:
    """Arguments of the model: none where there is a key, else the bundled provider's."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        yield {"api_base": local.base_url, "api_key": "unused"}


def get_weather(city: str) -> str:
    """Look up the weather in a city."""
    return f"sunny in {city}"


async def agent(llm: OpenAI) -> None:
    """An ordinary agent. It knows nothing of tokenwire."""
    runner: Any = FunctionAgent(tools=[get_weather], llm=llm)
    await runner.run(user_msg=QUESTION)


async def screen(sink: tokenwire.Sink) -> None:
    """Print what happens in the channel until the model has answered."""
    async with sink.watch(CHANNEL, rewind="all") as watch:
        async for event in watch:
            if isinstance(event, tokenwire.PartEvent):
                print(f"[{event.kind} {event.name}] ", end="")
            elif isinstance(event, tokenwire.DeltaEvent):
                print(event.text, end="", flush=True)
            elif isinstance(event, tokenwire.ToolResultEvent):
                print(f"[{event.name} answered: {event.output}]")
            elif isinstance(event, tokenwire.EndEvent):
                print(f"\n[{event.state}, {event.finish_reason}]")
                if event.finish_reason != "tool_calls":
                    break


async def main() -> None:
    with provider() as options:
        async with tokenwire.open_sink("memory://") as sink:
            get_dispatcher().add_event_handler(TokenwireEventHandler(sink, channel=CHANNEL))
            watching = asyncio.create_task(screen(sink))
            await agent(OpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), **options))
            await watching


if __name__ == "__main__":
    asyncio.run(main())
