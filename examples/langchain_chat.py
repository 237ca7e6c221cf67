"""A LangChain chain with one callback; its history is read afterwards.

    pip install "tokenwire[langchain]" langchain-openai
    python examples/langchain_chat.py

With $OPENAI_API_KEY set it talks to OpenAI; without, to a provider that it starts itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI

import tokenwire
from tokenwire_adapters.langchain import TokenwireCallbackHandler
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
        yield {"base_url": local.base_url, "api_key": "unused"}


def agent(model: ChatOpenAI, config: RunnableConfig) -> None:
    """An ordinary chain. It knows nothing of tokenwire."""
    chain = model | StrOutputParser()
    for text in chain.stream(QUESTION, config=config):
        print(text, end="", flush=True)
    print()


def main() -> None:
    with provider() as options, tokenwire.open_sink("memory://") as sink:
        name = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
        model = ChatOpenAI(model=name, stream_usage=True, **options)
        agent(model, {"callbacks": [TokenwireCallbackHandler(sink, channel=CHANNEL)]})
        (response,) = sink.history(CHANNEL, limit=1).items
        print(f"[{response.state}, {response.finish_reason}, {response.usage}]")


if __name__ == "__main__":
    main()
