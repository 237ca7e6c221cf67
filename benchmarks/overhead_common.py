"""Comparing runs with and without tokenwire on a machine that does other things, too.

CPU time is told, not the clock's: of the agent's own thread, which is what the agent waits for,
and of the whole process, with the sink's I/O thread. Runs come in pairs, and which of the two goes
first alternates. Other programs only ever add to a run (they empty the caches), so the fastest runs
of each kind are compared; the median of the pairs' ratios stands beside: where the two differ much,
the machine was not quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

Run = Callable[[], Any]


def cost(run: Run) -> tuple[float, float]:
    """CPU seconds of the agent's thread, and of the process."""
    gc.collect()
    process, thread = time.process_time(), time.thread_time()
    run()
    return time.thread_time() - thread, time.process_time() - process


def compare(name: str, bare: Run, tapped: Run, *, pairs: int, tokens: int) -> None:
    """Print what `tapped` costs beyond `bare`, which both read `tokens` tokens."""
    bare(), tapped()  # once, to warm up
    alone: list[tuple[float, float]] = []
    heard: list[tuple[float, float]] = []
    for pair in range(pairs):
        for run, costs in ((bare, alone), (tapped, heard))[:: -1 if pair % 2 else 1]:
            costs.append(cost(run))
    each = min(thread for thread, _ in alone) / tokens * 1e6
    print(f"{name:28} alone {each:6.1f} us a token", end="")
    for place, what in enumerate(("agent's thread", "whole process")):
        before = [pair[place] for pair in alone]
        after = [pair[place] for pair in heard]
        fastest = min(after) / min(before) - 1
        middle = statistics.median(b / a - 1 for a, b in zip(before, after, strict=True))
        print(f"; {what} {fastest:+6.1%} (median {middle:+.1%})", end="", flush=True)
    print()


def _serve(tokens: int, pace: float, ready: Any) -> None:
    from tokenwire_adapters.testing.provider import Provider

    async def main() -> None:
        async with Provider(pace=pace, length=tokens) as provider:
            ready.put(provider.base_url)
            await asyncio.Event().wait()

    asyncio.run(main())


@contextlib.contextmanager
def provider(tokens: int, pace: float) -> Iterator[str]:
    """The local provider, in a process of its own: replies of `tokens`, `pace` of them a second."""
    ready: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=_serve, args=(tokens, pace, ready), daemon=True)
    server.start()
    try:
        yield ready.get(timeout=60)
    finally:
        server.terminate()
        server.join()
