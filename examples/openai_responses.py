"""An async agent on OpenAI's Responses API, stopped by a watcher in the middle of its answer.

    pip install "tokenwire[openai]"
    python examples/openai_responses.py

With $OPENAI_API_KEY set it talks to OpenAI; without, to a provider that it starts itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator
from typing import Any

from openai import AsyncOpenAI

import tokenwire
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import serve_in_thread

CHANNEL = "chat-42"
QUESTION = "Tell a long story about a fox."


@contextlib.contextmanager
def provider() -> Generator[dict[str, Any], None, None]:
    """Arguments of the client: none where there is a key, else the bundled provider's."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        yield {"base_url": local.base_url, "api_key": "unused"}


async def agent(client: AsyncOpenAI) -> None:
    """An ordinary agent. Its loop simply ends when a watcher stops the response."""
    model = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
    stream = await client.responses.create(model=model, input=QUESTION, stream=True)
    async for _event in stream:
        pass
    print("\n[the agent goes on]")


async def screen(sink: tokenwire.Sink) -> None:
    """Print twenty deltas, then press stop."""
    seen = 0
    async with sink.watch(CHANNEL, rewind="all") as watch:
        async for event in watch:
            if isinstance(event, tokenwire.SnapshotEvent):
                print(event.response.text, end="", flush=True)
            elif isinstance(event, tokenwire.DeltaEvent):
                print(event.text, end="", flush=True)
                seen += 1
                if seen == 20:
                    outcome = await sink.acancel(CHANNEL, event.response_id, reason="enough")
                    print(f"\n[stopped: {outcome.state}]")
            elif isinstance(event, tokenwire.EndEvent):
                break


async def main() -> None:
    with provider() as options:
        async with tokenwire.open_sink("memory://") as sink, AsyncOpenAI(**options) as client:
            wrap(client, sink, channel=CHANNEL)
            await asyncio.gather(screen(sink), agent(client))


if __name__ == "__main__":
    asyncio.run(main())
