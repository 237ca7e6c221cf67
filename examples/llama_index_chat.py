"""A LlamaIndex chat engine with one event handler; its history is read afterwards.

    pip install "tokenwire[llama-index]" llama-index-llms-openai
    python examples/llama_index_chat.py

With $OPENAI_API_KEY set it talks to OpenAI; without, to a provider that it starts itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import Any

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.instrumentation import (  # type: ignore[attr-defined]
    get_dispatcher,  # pyright: ignore[reportPrivateImportUsage]
)
from llama_index.llms.openai import OpenAI

import tokenwire
from tokenwire_adapters.llama_index import TokenwireEventHandler
from tokenwire_adapters.testing.provider import serve_in_thread

CHANNEL = "chat-42"
QUESTION = "Why do people stream tokens?"


@contextlib.contextmanager
def provider() -> Generator[dict[str, Any], None, None]:
    """Arguments of the model: none where there is a key, else the bundled provider's."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        yield {"api_base": local.base_url, "api_key": "unused"}


def agent(llm: OpenAI) -> None:
    """An ordinary chat engine. It knows nothing of tokenwire."""
    engine: Any = SimpleChatEngine.from_defaults(llm=llm)
    for text in engine.stream_chat(QUESTION).response_gen:
        print(text, end="", flush=True)
    print()


def main() -> None:
    with provider() as options, tokenwire.open_sink("memory://") as sink:
        get_dispatcher().add_event_handler(TokenwireEventHandler(sink, channel=CHANNEL))
        agent(OpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), **options))
        (response,) = sink.history(CHANNEL, limit=1).items
        print(f"[{response.state}, {response.finish_reason}, run {response.run}]")


if __name__ == "__main__":
    main()
