"""What the callbacks of LangChain and LlamaIndex cost per token, in percent of the framework's own.

Real models read a reply from the local provider in another process, as fast as they can or, with
`--pace`, so many tokens a second. How the figures are made, and what they mean: overhead_common.py.

    python benchmarks/framework_overhead.py [--tokens 500] [--pairs 25] [--pace 0] [--only NAME]
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from typing import Any

from overhead_common import compare, provider

import tokenwire


def langchain(url: str, sink: tokenwire.Sink) -> dict[str, tuple[Callable[[], None], ...]]:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_openai import ChatOpenAI

    from tokenwire_adapters.langchain import TokenwireCallbackHandler

    class _Idle(BaseCallbackHandler):
        """What LangChain's own way to a handler costs."""

        run_inline = True

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            pass

        def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
            pass

    model = ChatOpenAI(model="m", base_url=url, api_key="k")
    events: Any = {"callbacks": [TokenwireCallbackHandler(sink, channel="c", stop_provider=False)]}
    tapped: Any = {"callbacks": [TokenwireCallbackHandler(sink, channel="c")]}
    idle: Any = {"callbacks": [_Idle()]}

    def sync(config: Any) -> None:
        for _ in model.stream("hi", config=config):
            pass

    def asynchronous(config: Any) -> None:
        async def main() -> None:
            async for _ in model.astream("hi", config=config):
                pass

        asyncio.run(main())

    return {
        "stream, an idle handler": (lambda: sync({}), lambda: sync(idle)),
        "stream, events alone": (lambda: sync({}), lambda: sync(events)),
        "stream, stop_provider": (lambda: sync({}), lambda: sync(tapped)),
        "astream, an idle handler": (lambda: asynchronous({}), lambda: asynchronous(idle)),
        "astream, events alone": (lambda: asynchronous({}), lambda: asynchronous(events)),
        "astream, stop_provider": (lambda: asynchronous({}), lambda: asynchronous(tapped)),
    }


def llama_index(url: str, sink: tokenwire.Sink) -> dict[str, tuple[Callable[[], None], ...]]:
    from llama_index.llms.openai import OpenAI

    from tokenwire_adapters._agents.llama_index import spans
    from tokenwire_adapters.llama_index import TokenwireEventHandler

    root = spans.root_dispatcher()

    model = OpenAI(model="gpt-4o", api_base=url, api_key="k")

    def run(handler: Any) -> None:
        root.event_handlers = [handler] if handler else []
        try:
            for _ in model.stream_complete("hi"):
                pass
        finally:
            root.event_handlers = []

    events = TokenwireEventHandler(sink, channel="c", stop_provider=False)
    tapped = TokenwireEventHandler(sink, channel="c")
    return {
        "llama-index, events alone": (lambda: run(None), lambda: run(events)),
        "llama-index, stop_provider": (lambda: run(None), lambda: run(tapped)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--pace", type=float, default=0, help="tokens a second; 0: no limit")
    makers = {"langchain": langchain, "llama-index": llama_index}
    parser.add_argument("--only", choices=makers)
    options = parser.parse_args()
    with (
        provider(options.tokens, options.pace) as url,
        tokenwire.open_sink("memory://bench") as sink,
    ):
        for framework, make in makers.items():
            if options.only in (None, framework):
                for name, (without, with_) in make(url, sink).items():
                    compare(name, without, with_, pairs=options.pairs, tokens=options.tokens)


if __name__ == "__main__":
    main()
