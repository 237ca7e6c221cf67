"""How the cost of a token and memory grow with channels, responses and length: for `suite.py`.

    python benchmarks/growth.py channels 100

prints one line of JSON: what a token costs in CPU, from `write` to a watcher that reads it, and
what one more channel (or open response, or token) holds, where there are so many.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "draw", "measure"]

KINDS = {
    "channels": "channels, each with an open response",
    "responses": "open responses of one channel",
    "length": "tokens of the response so far",
}
_TOKENS = 2000


def measure(kind: str, count: int) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, kind, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _is_over(event: Any) -> bool:
    """Whether an event ends a response; a watcher that fell behind gets a snapshot instead."""
    if event.type == "snapshot":
        return bool(event.response.state != "streaming")
    return bool(event.type == "end")


async def _measured(kind: str, count: int) -> dict[str, Any]:
    import tokenwire

    with tokenwire.open_sink(tokenwire.MemoryBackend()) as sink:
        first = sink.respond("0", response_id="first")
        async with sink.watch("0") as watch:
            before = _memory()
            others = [
                sink.respond(str(number) if kind == "channels" else "0")
                for number in range(1, count if kind != "length" else 1)
            ]
            for other in others:
                other.write("token ")
            if kind == "length":
                for _ in range(count):
                    first.write("token ")
            await sink.aflush()
            held = _memory() - before
            used = time.process_time()
            for number in range(_TOKENS):
                first.write("token ")
                if number % 10 == 9:  # as often as a busy watcher is woken
                    await sink.aflush()
                    await asyncio.sleep(0)
            first.write("end")
            first.finish()
            async for event in watch:
                if event.response_id == "first" and _is_over(event):
                    break
            used = time.process_time() - used
    return {"count": count, "us_per_token": used / _TOKENS * 1e6, "bytes_each": held / count}


def draw(points: dict[str, list[dict[str, Any]]], path: Path) -> bool:
    """Draw all growth as one SVG, both axes logarithmic; False where matplotlib is missing.

    :param points: by what grows: `count` (or `watchers`), the cost and the memory.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return False
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    titles = {"watchers": "watchers of one channel", **KINDS}
    figure, axes = pyplot.subplots(2, len(points), figsize=(4 * len(points), 7), squeeze=False)
    for column, (kind, rows) in enumerate(points.items()):
        counts = [row["count"] for row in rows]
        for axis, field, title in (
            (axes[0][column], "us_per_token", "CPU of a delivery (µs)"),
            (axes[1][column], "bytes_each", "memory of each (bytes)"),
        ):
            axis.loglog(counts, [max(row[field], 0.01) for row in rows], marker="o")
            axis.set_xlabel(titles[kind])
            axis.set_title(title)
            axis.grid(visible=True, which="both", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    return True


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measured(sys.argv[1], int(sys.argv[2])))))
