"""Hours in minutes: many agents, many watchers, flat memory, exact text.

python benchmarks/redis_soak.py [--seconds 600] [--responses 500] [--rate 60] [--watchers 5000]

Two producer processes write `responses` responses at a time, `rate` tokens a second each; one
process watches them. Each watcher checks the text it sees, delta by delta, by a checksum. A
response has `--length` tokens; when it ends, the next begins in the same channel. What it tells as
it goes is told again as a table at the end; the exit status is 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from redis_common import cpu, show

from tests.redis_support import RedisServer
from tokenwire import Sink, open_sink
from tokenwire_adapters.redis import RedisBackend

KEEP = "responses=2&events=128&event_bytes=65536"  # little, so that it is soon as full as it gets


def text_of(response_id: str, count: int) -> str:
    return "".join(f" {response_id}.{number}é" for number in range(count))


def produce(arguments: argparse.Namespace) -> None:
    """One producer process: its share of the responses, paced."""
    with open_sink(arguments.url) as sink:
        share = range(arguments.part, arguments.responses, 2)
        rounds = collections.Counter[int]()
        writers: dict[int, Any] = {}
        begun = time.monotonic()
        ticks = late = 0
        written: collections.Counter[int] = collections.Counter()
        step = 1 / arguments.rate
        while time.monotonic() < begun + arguments.seconds or writers:
            for number in share:
                writer = writers.get(number)
                if writer is None:
                    if time.monotonic() > begun + arguments.seconds:
                        continue
                    name = f"r{number}.{rounds[number]}"
                    rounds[number] += 1
                    # They do not all end at once.
                    written[number] = 0
                    writer = writers[number] = sink.respond(f"c{number}", response_id=name)
                writer.write(f" {writer.id}.{written[number]}é")
                written[number] += 1
                early = rounds[number] == 1 and written[number] > number % arguments.length
                if early or written[number] >= arguments.length:
                    writer.finish("stop", usage={"output_tokens": written[number]})
                    del writers[number]
            ticks += 1
            pause = begun + ticks * step - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            else:
                late += 1
        sink.flush(60)
        stats = sink.stats().writing
        show(
            process=f"producer {arguments.part}",
            tokens=stats.tokens,
            responses=stats.responses,
            tokens_per_s=round(stats.tokens / (time.monotonic() - begun)),
            publishes=stats.publishes,
            entries=stats.entries,
            retries=stats.retries,
            lost=stats.lost,
            fenced=stats.fenced,
            late_ticks=late,
        )


class Check:
    """Follows what one watcher sees, and holds it against what was written."""

    def __init__(self, counts: collections.Counter[str]) -> None:
        self.counts = counts
        self.open: dict[str, tuple[int, int, int]] = {}  # length, checksum, bytes

    def see(self, event: Any) -> None:
        name = event.response_id
        kind = event.type
        if kind == "delta":
            length, crc, size = self.open.get(name, (0, 0, 0))
            if event.offset != length:
                self.counts["wrong offsets"] += 1
            data = event.text.encode()
            self.open[name] = (length + len(event.text), zlib.crc32(data, crc), size + len(data))
        elif kind == "snapshot":
            self.counts["snapshots"] += 1
            data = event.response.text.encode()
            self.open[name] = (len(event.response.text), zlib.crc32(data), len(data))
            if event.response.ended:
                self._end(name, event.response.usage)
        elif kind == "end":
            self._end(name, event.usage)

    def _end(self, name: str, usage: Any) -> None:
        length, crc, size = self.open.pop(name, (0, 0, 0))
        expected = _expected(name, int((usage or {}).get("output_tokens", -1)))
        self.counts["ended"] += 1
        self.counts["wrong texts"] += (crc, size) != expected
        self.counts["characters"] += length


_known: collections.OrderedDict[tuple[str, int], tuple[int, int]] = collections.OrderedDict()


def _expected(name: str, count: int) -> tuple[int, int]:
    key = (name, count)
    if key not in _known:
        data = text_of(name, count).encode()
        _known[key] = (zlib.crc32(data), len(data))
        if len(_known) > 4096:
            _known.popitem(last=False)
    return _known[key]


def rss(pid: int | str = "self") -> int:
    """Resident memory of a process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def start_producers(arguments: argparse.Namespace, url: str) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, __file__, "--url", url]
    for name in ("seconds", "responses", "rate", "length"):
        command += [f"--{name}", str(getattr(arguments, name))]
    return [
        subprocess.Popen([*command, "--part", str(part)], stdout=subprocess.PIPE) for part in (0, 1)
    ]


def sample(server: RedisServer, producers: list[subprocess.Popen[bytes]]) -> dict[str, Any]:
    """Memory and processor time at this moment."""
    alive = [producer.pid for producer in producers if producer.poll() is None]
    return {
        "watcher_mib": rss(),
        "producers_mib": [rss(pid) for pid in alive],
        "redis_mib": int(server.info("memory")["used_memory"]) // 2**20,
        "watcher_cpu_s": round(time.process_time(), 1),
        "redis_cpu_s": round(cpu(server), 1),
    }


async def settle(counts: collections.Counter[str], expected: int) -> None:
    """Wait until the watchers have seen all there is, or see no more."""
    seen, since = -1, time.monotonic()
    while counts["ended"] < expected and time.monotonic() < since + 30:
        if counts["events"] != seen:
            seen, since = counts["events"], time.monotonic()
        await asyncio.sleep(0.2)


def table(rows: list[dict[str, Any]]) -> None:
    """The samples, for people."""
    print("\n| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows:
        cells = (
            " + ".join(map(str, value)) if isinstance(value, list) else str(value)
            for value in row.values()
        )
        print("| " + " | ".join(cells) + " |")


async def watch(arguments: argparse.Namespace, server: RedisServer) -> bool:
    """Watch what two producers write; say whether all was well."""
    counts: collections.Counter[str] = collections.Counter()
    rows: list[dict[str, Any]] = []
    backend = RedisBackend(f"{server.url}?{KEEP}")
    async with Sink(backend, ring_events=32, ring_bytes=16384) as reader:
        watches = [
            await reader.watch(f"c{number % arguments.responses}").aopen()
            for number in range(arguments.watchers)
        ]

        async def follow(one: Any) -> None:
            check = Check(counts)
            async for event in one:
                counts["events"] += 1
                check.see(event)

        tasks = [asyncio.create_task(follow(one)) for one in watches]
        producers = start_producers(arguments, f"{server.url}?{KEEP}")
        begun = time.monotonic()
        told: list[dict[str, Any]] = []
        try:
            while any(producer.poll() is None for producer in producers):
                if time.monotonic() > begun + 2 * arguments.seconds + 120:
                    raise TimeoutError("the producers do not come to their end")
                await asyncio.sleep(max(1.0, arguments.seconds / 12))
                passed = time.monotonic() - begun
                wrong = counts["wrong texts"] + counts["wrong offsets"]
                row = {"at_s": round(passed), "events_per_s": round(counts["events"] / passed)}
                row |= {"ended": counts["ended"], "wrong": wrong}
                rows.append(row | sample(server, producers))
                show(**rows[-1])
            for producer in producers:
                assert producer.stdout is not None
                told += [json.loads(line) for line in producer.stdout.read().splitlines()]
        finally:
            for producer in producers:
                producer.kill()
                producer.wait()
        for figures in told:
            show(**figures)
        each = arguments.watchers // arguments.responses
        expected = each * sum(figures["responses"] for figures in told)
        await settle(counts, expected)
        for one in watches:
            await one.aclose()
        await asyncio.gather(*tasks)
        stats = reader.stats().reading
        show(
            process="watchers",
            watchers=arguments.watchers,
            **dict(counts),
            ends_expected=expected,
            resyncs=stats.resyncs,
            conflations=stats.conflations,
            repeats_dropped=stats.repeats_dropped,
            slow_reader_disconnections=server.info("stats").get(
                "client_output_buffer_limit_disconnections"
            ),
            redis_connections=int(server.info("clients")["connected_clients"]),
        )
    table(rows)
    wrong = counts["wrong texts"] + counts["wrong offsets"]
    lost = sum(figures["lost"] + figures["fenced"] for figures in told)
    fine = len(told) == 2 and not wrong and not lost and counts["ended"] == expected
    print("\nAll texts were exact." if fine else "\nSOMETHING WAS WRONG.", flush=True)
    return fine


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--responses", type=int, default=500)
    parser.add_argument("--rate", type=float, default=60)
    parser.add_argument("--watchers", type=int, default=5000)
    parser.add_argument("--length", type=int, default=1200)
    parser.add_argument("--part", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.watchers % arguments.responses:
        parser.error("each response is to have as many watchers as the others")
    if arguments.part is not None:
        produce(arguments)
        return
    with RedisServer() as server:
        fine = asyncio.run(watch(arguments, server))
    sys.exit(not fine)


if __name__ == "__main__":
    main()
