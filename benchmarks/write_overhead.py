"""What `ResponseWriter.write` costs an agent, as ratios against baselines of the same run.

Run: python benchmarks/write_overhead.py [--quick]

Prints, per token: a bare `deque.append`, a write into the in-memory backend (alone, and among 1,000
open responses), a write while the backend is down, and what the openai SDK costs to parse a token.
Then the memory of 10,000 open responses, and of a run of a million tokens.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections import deque
from collections.abc import Callable

from tokenwire import MemoryBackend, Sink
from tokenwire.testing import FaultyBackend

TOKEN = " token"


Cost = tuple[float, float]  # CPU nanoseconds a token: of the thread that writes, of the process


def per_token(work: Callable[[int], None], tokens: int, rounds: int) -> Cost:
    """The medians over rounds, garbage collection off.

    Not the time by the clock, which has the waits for Python's lock in it.
    """
    threads: list[float] = []
    processes: list[float] = []
    for _ in range(rounds):
        gc.collect()
        gc.disable()
        thread, process = time.thread_time_ns(), time.process_time_ns()
        work(tokens)
        threads.append((time.thread_time_ns() - thread) / tokens)
        processes.append((time.process_time_ns() - process) / tokens)
        gc.enable()
    return statistics.median(threads), statistics.median(processes)


def bare(tokens: int) -> None:
    queue: deque[str] = deque()
    append = queue.append
    for _ in range(tokens):
        append(TOKEN)


def writing(sink: Sink) -> Callable[[int], None]:
    def work(tokens: int) -> None:
        with sink.respond("bench") as response:
            write = response.write
            for _ in range(tokens):
                write(TOKEN)

    return work


def many(sink: Sink, responses: int) -> Callable[[int], None]:
    writers = [sink.respond("bench", response_id=f"open-{n}") for n in range(responses)]

    def work(tokens: int) -> None:
        for _ in range(tokens // responses):
            for writer in writers:
                writer.write(TOKEN)

    return work


def sdk(tokens: int) -> Callable[[int], None] | None:
    """Parse a stream of chat completion chunks with the real SDK, without a network."""
    try:
        import openai
    except ImportError:
        return None
    try:
        import httpx2 as http  # openai 3
    except ImportError:
        import httpx as http  # type: ignore[no-redef]
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt",
        "choices": [{"index": 0, "delta": {"content": TOKEN}, "finish_reason": None}],
    }
    body = f"data: {json.dumps(chunk)}\n\n".encode() * tokens + b"data: [DONE]\n\n"

    def answer(_: object) -> object:
        return http.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    client = openai.OpenAI(
        api_key="none",
        base_url="http://127.0.0.1/v1",
        http_client=http.Client(transport=http.MockTransport(answer)),
    )

    def work(_: int) -> None:
        for _chunk in client.chat.completions.create(model="gpt", messages=[], stream=True):
            pass

    return work


def memory_of_open_responses(count: int) -> float:
    sink = Sink(MemoryBackend())
    gc.collect()
    tracemalloc.start()
    writers = [sink.respond(f"chat-{n}") for n in range(count)]
    for writer in writers:
        writer.write(TOKEN)
    sink.flush(60)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    sink.close(60)
    return held / count


def memory_of_a_long_run(tokens: int) -> list[float]:
    """MiB held after each tenth of a run of responses of 1,000 tokens, with a retention of 100."""
    from tokenwire.memory import Retention

    sink = Sink(MemoryBackend(retention=Retention(responses=100)))
    gc.collect()
    tracemalloc.start()
    held: list[float] = []
    for _ in range(10):
        for _ in range(tokens // 10_000):
            with sink.respond("chat") as response:
                for _ in range(1000):
                    response.write(TOKEN)
        sink.flush(60)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0] / 2**20)
    tracemalloc.stop()
    sink.close()
    return held


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a tenth of the work")
    quick = options.parse_args().quick
    tokens, rounds = (20_000, 3) if quick else (200_000, 7)

    base = per_token(bare, tokens, rounds)
    idle = Sink(MemoryBackend())
    alone = per_token(writing(idle), tokens, rounds)
    idle.close()
    crowd = Sink(MemoryBackend())
    among = per_token(many(crowd, 1000), tokens, rounds)
    crowd.close()
    broken = FaultyBackend(MemoryBackend())
    sink = Sink(broken, close_timeout=0.1)
    broken.kill()
    down = per_token(writing(sink), tokens, 3)
    broken.revive()
    sink.close(60)
    rows = [
        ("deque.append", base),
        ("write, memory backend", alone),
        ("write, 1,000 open responses", among),
        ("write, backend down", down),
    ]
    parse = sdk(5000)
    if parse is not None:
        rows.append(("openai SDK, parsing", per_token(parse, 5000, rounds)))
    print(f"{'CPU ns per token':32} {'agent':>9} {'x append':>9} {'process':>9} {'x append':>9}")
    for name, cost in rows:
        columns = (f"{cpu:9.0f} {cpu / bare:9.1f}" for cpu, bare in zip(cost, base, strict=True))
        print(f"{name:32} {' '.join(columns)}")
    if parse is not None:
        print(f"write / SDK: {alone[0] / rows[-1][1][0]:.2%}")
    count = 1000 if quick else 10_000
    print(f"{count} open responses: {memory_of_open_responses(count) / 1024:.1f} KiB each")
    held = memory_of_a_long_run(100_000 if quick else 1_000_000)
    print("MiB held along the run: " + " ".join(f"{mib:.2f}" for mib in held))


if __name__ == "__main__":
    main()
