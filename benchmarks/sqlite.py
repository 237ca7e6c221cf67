"""The SQLite backend beside Redis and bare sqlite3, in alternating runs.

python benchmarks/sqlite.py [throughput|latency|join|size|memory|idle]...

Needs a redis-server. Look at the ratios: each is the median over rounds in which all took turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from redis_common import percentile, server, show, timed, token

from tokenwire import open_sink

ROUNDS = 5
TEXT = "".join(token(number) for number in range(1000))  # 4.5 kB


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=os.environ.get("TOKENWIRE_BENCHMARK_FOLDER")))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def places() -> Iterator[dict[str, Callable[[], str]]]:
    """URLs of fresh places, by the names of what is compared."""
    with server() as redis, folder() as path:
        count = iter(range(10**6))

        def flushed() -> str:
            redis.cli("FLUSHALL")
            return redis.url

        yield {"redis": flushed, "sqlite": lambda: f"sqlite:///{path}/{next(count)}.db"}


def compare(what: str, runs: dict[str, Callable[[], float]], *, unit: str, against: str) -> None:
    """Let all take turns, and show the median of each and of its ratio to `against`."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            figures[name].append(run())
    for name, values in figures.items():
        ratios = [a / b for a, b in zip(values, figures[against], strict=True)]
        show(
            what=what,
            name=name,
            **{unit: round(statistics.median(values), 3)},
            ratio=round(statistics.median(ratios), 2),
            to=against,
        )


# -- into the file


def write_tokens(url: str, tokens: int, responses: int) -> float:
    """Tokens a second of so many agents that write as fast as they can."""
    with open_sink(url) as sink:
        with sink.respond("warm") as response:
            response.write("up")
        sink.flush(10)
        share = tokens // responses

        def agent(number: int) -> None:
            with sink.respond(f"c{number}", response_id="r") as response:
                for index in range(share):
                    response.write(token(index))

        with timed() as taken:
            threads = [threading.Thread(target=agent, args=(n,)) for n in range(responses)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sink.flush(600)
        text = "".join(token(index) for index in range(share))
        assert sink.history(f"c{responses - 1}").items[0].text == text
    return tokens / taken[0]


def write_raw(path: Path, tokens: int, together: int) -> float:
    """Tokens a second of bare sqlite3, with so many in a transaction."""
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE tokens (id INTEGER PRIMARY KEY, text TEXT)")
    with timed() as taken:
        for begin in range(0, tokens, together):
            db.execute("BEGIN IMMEDIATE")
            for index in range(begin, min(begin + together, tokens)):
                db.execute("INSERT INTO tokens (text) VALUES (?)", (token(index),))
            db.execute("COMMIT")
    db.close()
    return tokens / taken[0]


def throughput(tokens: int = 100_000) -> None:
    with places() as urls, folder() as path:
        for responses in (1, 100):
            runs: dict[str, Callable[[], float]] = {
                name: lambda url=url, n=responses: write_tokens(url(), tokens, n)
                for name, url in urls.items()
            }
            runs["sqlite3, a transaction per token"] = lambda: write_raw(
                path / "raw", tokens // 10, 1
            )
            runs["sqlite3, 100 in a transaction"] = lambda: write_raw(path / "raw", tokens, 100)
            compare(f"throughput, {responses}", runs, unit="tokens_per_s", against="redis")


# -- to a watcher in another process

WATCHER = """
import json, sys, time
from tokenwire import open_sink
times = []
with open_sink(sys.argv[1]) as sink, sink.watch("c").open() as watch:
    print("ready", flush=True)
    for event in watch:
        if event.type == "delta":
            now = time.clock_gettime(time.CLOCK_MONOTONIC)
            times += [now - float(sent) for sent in event.text.split()]
        if event.type == "end":
            break
print(json.dumps(times))
"""


def watched(url: str, tokens: int, pace: float) -> float:
    """Milliseconds from write to the watcher, in the median."""
    watcher = subprocess.Popen(
        [sys.executable, "-c", WATCHER, url], stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout is not None
    with open_sink(url) as sink:
        assert watcher.stdout.readline() == "ready\n"
        with sink.respond("c") as writer:
            due = time.perf_counter()
            for _ in range(tokens):
                writer.write(f"{time.clock_gettime(time.CLOCK_MONOTONIC)} ")
                due += pace
                time.sleep(max(0.0, due - time.perf_counter()))
        assert sink.flush(10)
    times = json.loads(watcher.stdout.readline())
    assert watcher.wait(10) == 0
    return percentile(times, 0.5) * 1000


def latency(tokens: int = 500) -> None:
    with places() as urls:
        runs = {name: lambda url=url: watched(url(), tokens, 0.01) for name, url in urls.items()}
        compare("latency", runs, unit="p50_ms", against="redis")


# -- joining late


async def joined(url: str, tokens: int) -> float:
    """Milliseconds until a watcher that comes after so many tokens has the text."""
    async with open_sink(url) as sink, open_sink(url) as reader:
        writer = sink.respond("c", response_id="r")
        for number in range(tokens):
            writer.write(token(number))
            if number % 20 == 0:
                await sink.aflush(30)
        await sink.aflush(30)
        await reader.watch("other").aopen()  # connected
        with timed() as taken:
            watch = await reader.watch("c").aopen()
            event = await anext(aiter(watch))
        assert len(event.response.text) == sum(len(token(n)) for n in range(tokens))
        writer.finish()
    return taken[0] * 1000


def join(tokens: int = 10_000) -> None:
    with places() as urls:
        runs = {
            name: lambda url=url: asyncio.run(joined(url(), tokens)) for name, url in urls.items()
        }
        compare("join", runs, unit="ms", against="redis")


# -- space


def size(responses: int = 1000, together: int = 20) -> None:
    """The file after so many finished responses, each in a channel of its own."""
    with folder() as path:
        url = f"sqlite:///{path}/chat.db?event_age=0.2"
        text = len(TEXT.encode()) * responses
        with open_sink(url) as sink:
            for number in range(responses):
                with sink.respond(f"c{number}", response_id="r") as writer:
                    for index in range(1000):
                        writer.write(token(index))
                        if index % (1000 // together) == 0:
                            sink.flush(10)
            time.sleep(10)  # what is no longer needed is given back bit by bit
        bytes_ = os.stat(path / "chat.db").st_size
        show(what="size", bytes=bytes_, times_the_text=round(bytes_ / text, 2))


MEMORY = """
import re, sys
from pathlib import Path
from tokenwire import open_sink
with open_sink(sys.argv[1]) as sink, sink.watch("c1", rewind="all").open() as watch:
    event = next(watch)
    # Not ru_maxrss: a process inherits that of the one that started it.
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def memory(mebibytes: int = 1024) -> None:
    """A process that watches one channel of a file of a GiB; and of Redis, which has it alone."""
    with places() as urls, folder() as path:
        large = f"sqlite:///{path}/large.db"
        with open_sink(large, event_age=0.2) as sink:
            for number in range(mebibytes):
                with sink.respond(f"c{number}") as writer:
                    writer.write(TEXT * (2**20 // len(TEXT)))
                sink.flush(30)
        show(what="memory", file_bytes=os.stat(path / "large.db").st_size)
        redis = urls["redis"]()
        with open_sink(redis) as sink:
            with sink.respond("c1") as writer:
                writer.write(TEXT * (2**20 // len(TEXT)))
            sink.flush(30)

        def run(url: str) -> float:
            command = [sys.executable, "-c", MEMORY, url]
            return int(subprocess.run(command, capture_output=True, check=True).stdout) / 1024

        runs = {"redis": lambda: run(redis), "sqlite": lambda: run(large)}
        compare("memory", runs, unit="mib", against="redis")


# -- watchers to which nothing happens

IDLE = """
import contextlib, sys, time
from tokenwire import open_sink
url, watchers, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with open_sink(url) as sink, contextlib.ExitStack() as watches:
    for number in range(watchers):
        watches.enter_context(sink.watch(f"c{number}").open())
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.process_time()
    time.sleep(seconds)
    print(time.process_time() - begun, flush=True)
"""


def idled(urls: dict[str, str], watchers: int, seconds: float, pace: float) -> dict[str, float]:
    """Per cent of a core that the watchers of one process take, for each URL, at the same time.

    :param pace: seconds between the tokens that this process writes to another channel; 0: none.
    """
    command = [sys.executable, "-c", IDLE]
    processes = {
        name: subprocess.Popen(
            [*command, url, str(watchers), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, url in urls.items()
    }
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    with contextlib.ExitStack() as sinks:
        writers = [
            sinks.enter_context(sinks.enter_context(open_sink(url)).respond("another"))
            for url in urls.values()
            if pace
        ]
        time.sleep(1)  # what joining takes is over
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        while any(process.poll() is None for process in processes.values()):
            for number, writer in enumerate(writers):
                writer.write(token(number))
            time.sleep(pace or 0.1)
    return {
        name: float(process.communicate()[0]) / seconds * 100 for name, process in processes.items()
    }


def idle(watchers: int = 20, seconds: float = 20) -> None:
    """Processor time of watchers to which nothing happens; memory:// shows what Python takes."""
    for what, pace in (("idle", 0.0), ("idle, another channel has 100 tokens/s", 0.01)):
        figures: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            with places() as urls:
                fresh = {name: url() for name, url in urls.items()}
                fresh["memory"] = "memory://idle"
                for name, value in idled(fresh, watchers, seconds, pace).items():
                    figures.setdefault(name, []).append(value)
        for name, values in figures.items():
            show(what=what, name=name, percent_of_a_core=round(statistics.median(values), 3))


def main() -> None:
    for name in sys.argv[1:] or ("throughput", "latency", "join", "size", "memory", "idle"):
        globals()[name]()


if __name__ == "__main__":
    main()
