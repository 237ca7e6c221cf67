"""What breaks, and what it costs: fault runs, each with its counts.

python benchmarks/redis_faults.py [--short] [name]...

Every run writes numbered tokens, watches them from another sink, and counts in the text that the
watchers have at the end, and in the history, what is missing and what is there twice.
"""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from redis_common import show

from tests.redis_support import RedisCluster, RedisSentinel, RedisServer
from tokenwire import Sink, open_sink
from tokenwire.response import Transcript

QUICK = {"timeout": 1.0, "health": 1.0}
SHORT = "--short" in sys.argv


class Audience:
    """Watches channels in threads, until every response in them has ended."""

    def __init__(self, sink: Sink, expected: dict[str, int]) -> None:
        self.transcripts = {channel: Transcript() for channel in expected}
        self.ends: collections.Counter[tuple[str, str]] = collections.Counter()
        self.gaps = 0
        self.ended_at: dict[str, float] = {}
        self._watches = {channel: sink.watch(channel).open() for channel in expected}
        self._threads = [
            threading.Thread(target=self._watch, args=(channel, count), daemon=True)
            for channel, count in expected.items()
        ]
        for thread in self._threads:
            thread.start()

    def _watch(self, channel: str, count: int) -> None:
        transcript, ended = self.transcripts[channel], set()
        for event in self._watches[channel]:
            try:
                transcript.apply(event)
            except Exception:
                self.gaps += 1
            name = event.response_id
            over = event.type == "end" or (event.type == "snapshot" and event.response.ended)
            if over and name is not None:
                self.ends[channel, name] += event.type == "end"
                ended.add(name)
                self.ended_at[name] = time.monotonic()
                if len(ended) == count:
                    return

    def wait(self, timeout: float = 300) -> bool:
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


def run(
    name: str,
    sinks: tuple[Sink, Sink],
    break_it: Callable[[], object],
    *,
    responses: int = 50,
    tokens: int = 200,
    pace: float = 0.01,
) -> None:
    """Write, break, and count."""
    sink, reader = sinks
    channels = max(1, responses // 5)
    names = [(f"c{number % channels}", f"r{number}") for number in range(responses)]
    audience = Audience(reader, collections.Counter(channel for channel, _ in names))
    writers = [sink.respond(channel, response_id=response) for channel, response in names]
    done = threading.Event()
    trouble: list[object] = []

    def breaking() -> None:
        try:
            time.sleep(pace * tokens / 4)
            trouble.append(break_it())
        finally:
            done.set()

    begun = time.monotonic()
    thread = threading.Thread(target=breaking)
    thread.start()
    number = slowest = 0
    while number < tokens or not done.is_set():
        before = time.monotonic()
        for writer in writers:
            writer.write(f"{number} ")
        slowest = max(slowest, time.monotonic() - before)
        number += 1
        time.sleep(pace)
    for writer in writers:
        writer.finish("stop")
    receipts = collections.Counter(writer.wait(300).status for writer in writers)
    complete = audience.wait()
    thread.join()
    expected = [f"{index}" for index in range(number)]
    lost = repeated = 0
    for channel, response in names:
        transcript = audience.transcripts[channel]
        kept = {one.id: one for one in reader.history(channel, limit=100).items}
        for text in (
            transcript[response].text if response in transcript else "",
            kept[response].text if response in kept else "",
        ):
            seen = collections.Counter(text.split())
            lost += sum(1 for one in expected if one not in seen)
            repeated += sum(count - 1 for count in seen.values())
            lost += text.split() != expected and not lost  # out of order counts, too
    stats = sink.stats().writing
    show(
        run=name,
        responses=responses,
        tokens=number * responses,
        lost=lost,
        repeated=repeated,
        ended_twice=sum(1 for count in audience.ends.values() if count > 1),
        gaps=audience.gaps,
        all_ended=complete,
        receipts=dict(receipts),
        retries=stats.retries,
        recoveries=stats.recoveries,
        slowest_write_round_ms=round(slowest * 1000, 1),
        seconds=round(time.monotonic() - begun, 1),
        trouble=trouble[0] if trouble else None,
    )


def single(name: str, break_it: Callable[[RedisServer], object], **options: int) -> None:
    """A run on one server."""
    with (
        RedisServer(appendonly=True) as server,
        open_sink(server.url, **QUICK) as sink,
        open_sink(server.url, **QUICK) as reader,
    ):
        run(name, (sink, reader), lambda: break_it(server), **options)


def kill_redis() -> None:
    def break_it(server: RedisServer) -> str:
        times = 2 if SHORT else 5
        for _ in range(times):
            server.restart(kill=True)
            time.sleep(0.5)
        return f"{times} times kill -9 and restart, AOF every second"

    single("kill -9 of Redis", break_it)


def kill_clients() -> None:
    def break_it(server: RedisServer) -> str:
        killed, until = 0, time.monotonic() + (2 if SHORT else 10)
        while time.monotonic() < until:
            killed += server.kill_clients()
            time.sleep(0.05)
        return f"{killed} connections killed"

    single("CLIENT KILL every 50 ms", break_it, responses=200)


def debug_sleep() -> None:
    def break_it(server: RedisServer) -> str:
        for _ in range(3):
            server.cli("DEBUG", "SLEEP", 1.5)
            time.sleep(0.2)
        return "3 times DEBUG SLEEP 1.5"

    single("DEBUG SLEEP", break_it)


def freeze() -> None:
    seconds = 4 if SHORT else 20

    def break_it(server: RedisServer) -> str:
        with server.paused():
            time.sleep(seconds)
        return f"SIGSTOP for {seconds} s"

    single("frozen server", break_it, pace=0.02)


def failover() -> None:
    for kill in (False, True):
        with RedisSentinel() as sentinel:
            options = {**QUICK, "replicas": int(kill)}

            def break_it(sentinel: RedisSentinel = sentinel, kill: bool = kill) -> str:
                sentinel.failover(kill=kill)
                if kill:
                    sentinel.revive()
                    return "kill -9 of the master, replicas=1"
                sentinel.wait_demoted()
                return "SENTINEL FAILOVER"

            url = sentinel.url
            with open_sink(url, **options) as sink, open_sink(url, **options) as reader:
                run("Sentinel failover", (sink, reader), break_it, tokens=600)


def migrate() -> None:
    with RedisCluster() as cluster:
        url = cluster.url.replace("redis://", "redis+cluster://")

        def break_it() -> str:
            slots = [cluster.slot_of(f"{{c{number}}}") for number in range(10)]
            for slot in slots * 2:
                migration = cluster.begin_migration(slot)
                migration.move_keys(2)
                time.sleep(0.05)
                migration.finish()
            return f"{len(slots) * 2} slots moved, half of the keys a while before the rest"

        with open_sink(url, **QUICK) as sink, open_sink(url, **QUICK) as reader:
            run("Cluster slots move", (sink, reader), break_it, tokens=400)


PRODUCER = """
import sys, time, tokenwire
sink = tokenwire.open_sink(sys.argv[1], lease=float(sys.argv[2]))
writers = [sink.respond(f"c{n % 4}", response_id=f"r{n}") for n in range(20)]
number = 0
while number < 3000:
    for writer in writers:
        writer.write(f"{number} ")
    number += 1
    if number == 50:
        print("up", flush=True)
    time.sleep(0.01)
    if all(writer.ended for writer in writers):
        break
statuses = [writer.wait(10).status for writer in writers]
print(sum(status == "refused" for status in statuses), flush=True)
"""


def _producer(server: RedisServer, lease: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRODUCER, server.url, str(lease)]
    producer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert producer.stdout is not None
    assert producer.stdout.readline() == "up\n"
    return producer


def kill_producer() -> None:
    lease = 2.0
    with RedisServer() as server, open_sink(server.url, lease=lease) as reader:
        audience = Audience(reader, {f"c{number}": 5 for number in range(4)})
        producer = _producer(server, lease)
        producer.kill()
        killed = time.monotonic()
        producer.wait()
        complete = audience.wait(60)
        waited = [ended - killed for ended in audience.ended_at.values()]
        states = collections.Counter(
            one.state for transcript in audience.transcripts.values() for one in transcript
        )
        show(
            run="kill -9 of the producer",
            responses=20,
            lease=lease,
            told=len(waited),
            all_ended=complete,
            first_told_after_s=round(min(waited), 2),
            last_told_after_s=round(max(waited), 2),
            states=dict(states),
            gaps=audience.gaps,
            ended_twice=sum(1 for count in audience.ends.values() if count > 1),
        )


def suspend_producer() -> None:
    lease = 1.0
    with RedisServer() as server, open_sink(server.url, lease=lease) as reader:
        audience = Audience(reader, {f"c{number}": 5 for number in range(4)})
        producer = _producer(server, lease)
        os.kill(producer.pid, signal.SIGSTOP)
        complete = audience.wait(60)
        before = {one.id: one.text for n in range(4) for one in reader.history(f"c{n}").items}
        os.kill(producer.pid, signal.SIGCONT)
        assert producer.stdout is not None
        refused = int(producer.stdout.readline())
        producer.wait()
        after = {one.id: one.text for n in range(4) for one in reader.history(f"c{n}").items}
        show(
            run="producer suspended past its lease",
            responses=20,
            lease=lease,
            all_ended=complete,
            refused=refused,
            changed_after_the_end=sum(before[name] != after[name] for name in before),
        )


RUNS = {
    "kill-redis": kill_redis,
    "kill-producer": kill_producer,
    "kill-clients": kill_clients,
    "failover": failover,
    "migrate": migrate,
    "debug-sleep": debug_sleep,
    "freeze": freeze,
    "suspend-producer": suspend_producer,
}


def main() -> None:
    chosen = [name for name in sys.argv[1:] if not name.startswith("-")] or list(RUNS)
    for name in chosen:
        RUNS[name]()


if __name__ == "__main__":
    main()
