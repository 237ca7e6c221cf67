"""An agent on Anthropic's Messages API, wrapped in one line; its history is read afterwards.

    pip install "tokenwire[anthropic]"
    python examples/anthropic_messages.py

With $ANTHROPIC_API_KEY set it talks to Anthropic; without, to a provider that it starts itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import Any

from anthropic import Anthropic

import tokenwire
from tokenwire_adapters.anthropic import wrap
from tokenwire_adapters.testing.provider import serve_in_thread

CHANNEL = "chat-42"
QUESTION = "Why do people stream tokens?"


@contextlib.contextmanager
def provider() -> Generator[dict[str, Any], None, None]:
    """Arguments of the client: none where there is a key, else the bundled provider's."""
    if os.environ.get("ANTHROPIC_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        yield {"base_url": local.base_url, "api_key": "unused"}


def agent(client: Anthropic) -> None:
    """An ordinary agent. It knows nothing of tokenwire."""
    with client.messages.stream(
        model=os.environ.get("ANTHROPIC_MODEL", "claude-sonnet-4-6"),
        max_tokens=1000,
        messages=[{"role": "user", "content": QUESTION}],
    ) as stream:
        for text in stream.text_stream:
            print(text, end="", flush=True)
    print()


def main() -> None:
    with provider() as options, tokenwire.open_sink("memory://") as sink:
        with Anthropic(**options) as client:
            agent(wrap(client, sink, channel=CHANNEL))
        (response,) = sink.history(CHANNEL, limit=1).items
        print(f"[{response.state}, {response.finish_reason}, {response.usage}]")
        print(f"[{len(response.text)} characters of text, {len(response.reasoning)} of reasoning]")


if __name__ == "__main__":
    main()
