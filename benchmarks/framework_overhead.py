"""What the callbacks of LangChain and LlamaIndex cost per token, in percent of the framework's own.

Real models read a reply from the local provider in another process. Runs with and without the
handler alternate, so that both meet the same noise; the medians of the pairs' ratios are told.

    python benchmarks/framework_overhead.py [--tokens 2000] [--pairs 15]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import tokenwire


def serve(tokens: int, ready: Any) -> None:
    from tokenwire_adapters._provider import Provider

    async def main() -> None:
        async with Provider(pace=0, length=tokens) as provider:
            ready.put(provider.base_url)
            await asyncio.Event().wait()

    asyncio.run(main())


def langchain(url: str, sink: tokenwire.Sink) -> dict[str, tuple[Callable[[], None], ...]]:
    from langchain_openai import ChatOpenAI

    from tokenwire_adapters.langchain import TokenwireCallbackHandler

    model = ChatOpenAI(model="m", base_url=url, api_key="k")
    watched: Any = {"callbacks": [TokenwireCallbackHandler(sink, channel="c")]}

    def sync(config: Any) -> None:
        for _ in model.stream("hi", config=config):
            pass

    def asynchronous(config: Any) -> None:
        async def main() -> None:
            async for _ in model.astream("hi", config=config):
                pass

        asyncio.run(main())

    return {
        "langchain stream": (lambda: sync({}), lambda: sync(watched)),
        "langchain astream": (lambda: asynchronous({}), lambda: asynchronous(watched)),
    }


def llama_index(url: str, sink: tokenwire.Sink) -> dict[str, tuple[Callable[[], None], ...]]:
    from llama_index.llms.openai import OpenAI

    from tokenwire_adapters._llama_index import spans
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


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds of the agent's thread, and of the process (with the sink's I/O thread)."""
    thread, process = time.thread_time(), time.process_time()
    work()
    return time.thread_time() - thread, time.process_time() - process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    ready: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(options.tokens, ready), daemon=True)
    server.start()
    url = ready.get(timeout=60)
    sink = tokenwire.open_sink("memory://bench")
    try:
        for make in (langchain, llama_index):
            for name, (without, with_) in make(url, sink).items():
                without()
                with_()
                pairs = [(timed(without), timed(with_)) for _ in range(options.pairs)]
                base = statistics.median(one[0] for one, _ in pairs) / options.tokens
                thread, process = (
                    statistics.median(two[clock] / one[clock] - 1 for one, two in pairs)
                    for clock in (0, 1)
                )
                print(
                    f"{name:28} {base * 1e6:6.1f} us a token alone;"
                    f" with us {thread:+.1%} on the agent's thread, {process:+.1%} in all"
                )
    finally:
        sink.close()
        server.terminate()


if __name__ == "__main__":
    main()
