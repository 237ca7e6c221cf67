"""An agent on OpenAI's Chat Completions, wrapped in one line; a screen watches it.

    pip install "tokenwire[openai]"
    python examples/openai_chat.py

With $OPENAI_API_KEY set it talks to OpenAI; without, to a provider that it starts itself.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator
from typing import Any

from openai import OpenAI

import tokenwire
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import serve_in_thread

CHANNEL = "chat-42"
QUESTION = "Why do people stream tokens?"


@contextlib.contextmanager
def provider() -> Generator[dict[str, Any], None, None]:
    """Arguments of the client: none where there is a key, else the bundled provider's."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        yield {"base_url": local.base_url, "api_key": "unused"}


def agent(client: OpenAI) -> None:
    """An ordinary agent. It knows nothing of tokenwire."""
    model = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    for _chunk in stream:
        pass  # whatever the agent does with it


def screen(sink: tokenwire.Sink) -> None:
    """Print the first response of the channel as it grows."""
    with sink.watch(CHANNEL, rewind="all") as watch:
        for event in watch:
            if isinstance(event, tokenwire.SnapshotEvent):
                print(event.response.text, end="", flush=True)
            if isinstance(event, tokenwire.DeltaEvent):
                print(event.text, end="", flush=True)
            elif isinstance(event, tokenwire.EndEvent):
                print(f"\n[{event.state}, {event.finish_reason}, {event.usage}]")
                break


def main() -> None:
    with (
        provider() as options,
        tokenwire.open_sink("memory://") as sink,
        OpenAI(**options) as client,
    ):
        watcher = threading.Thread(target=screen, args=(sink,))
        watcher.start()
        agent(wrap(client, sink, channel=CHANNEL))
        watcher.join()


if __name__ == "__main__":
    main()
