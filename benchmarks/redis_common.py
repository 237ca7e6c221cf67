"""What the Redis benchmarks share: a server of their own, words, and counting."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.redis_support import RedisServer

TOKENS = (" the", " stream", " of", " tokens", " goes", " on", ",", " and", " naïve", " 東京", ".")


def token(number: int) -> str:
    """About what a model's tokens look like: four and a half bytes on average."""
    return TOKENS[number % len(TOKENS)]


@contextlib.contextmanager
def server() -> Iterator[RedisServer]:
    """A fresh server without persistence."""
    with RedisServer() as started:
        yield started


def commands(started: RedisServer) -> dict[str, int]:
    """How often each command ran, those inside scripts included."""
    stats = started.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(one["calls"]) for name, one in stats.items()}


def cpu(started: RedisServer) -> float:
    """Processor seconds the server has used."""
    used = started.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def since(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was called in between, the counting itself aside."""
    found = {name: calls - before.get(name, 0) for name, calls in after.items()}
    return {name: calls for name, calls in found.items() if calls and name != "info"}


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def show(**figures: object) -> None:
    """One line of results, for people and for programs."""
    print(json.dumps(figures, ensure_ascii=False), flush=True)


@contextlib.contextmanager
def timed() -> Iterator[list[float]]:
    """Seconds that the block took, as the only item of a list."""
    taken: list[float] = []
    begun = time.perf_counter()
    yield taken
    taken.append(time.perf_counter() - begun)


async def text_of(watch: Any) -> str:
    """The text of a response that an open watch has, up to its end; the watch is closed then."""
    parts: list[str] = []
    async for event in watch:
        if event.type == "delta":
            parts.append(event.text)
        elif event.type == "snapshot":
            parts = [event.response.text]
        if event.type == "end" or (event.type == "snapshot" and event.response.ended):
            await watch.aclose()
            break
    return "".join(parts)
