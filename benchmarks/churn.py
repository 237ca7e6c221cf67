"""Clients that come and go, badly: does the gateway come back to where it began?

    python benchmarks/churn.py [memory://|redis] [--minutes 10]

A gateway runs in a process of its own, with a producer. Against it, for the given time:

- watchers that hang up while they join, by SSE and by WebSocket, some within their first request;
- slow readers, which the gateway drops (`send_timeout` is 2 s here);
- watches that are cancelled while they open, in the gateway's process;
- visitors that stay for a while, and say goodbye.

It samples the process as it goes. Then it lets all settle, prints one line of JSON and a table, and
exits with 1 unless all is flat: hubs, connections, tasks and file descriptors are back at the
beginning, and the resident memory has grown by no more than `--bound` MiB after the first tenth.
`redis` starts a redis-server of its own; needs the extras `gateway` and `metrics`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import re
import resource
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from urllib.request import urlopen

import redis_common
import uvicorn

import tokenwire
from tokenwire.memory import Retention
from tokenwire_adapters.asgi import Gateway, Limits

KEEP = {"responses": 4, "events": 128, "event_bytes": 65536}  # soon as full as it gets
SEND_TIMEOUT = 2.0
RATES = dict.fromkeys(("connections_per_client", "request_rate", "request_burst"), 10**6)
SETTLE = 45.0  # seconds: a hub is kept for a while after its last watcher, and so are connections
WRITTEN, WATCHED, KINDS = 8, 200, ("sse", "ws")  # channels, and how to watch them
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
COUNTED = ("hubs", "watchers", "connections", "tasks", "descriptors")


# -- the gateway's process


def sample(sink: tokenwire.Sink, gateway: Gateway) -> dict[str, Any]:
    """What this process holds at this moment; tasks are those of all event loops."""
    gc.collect()
    tasks = [item for item in gc.get_objects() if isinstance(item, asyncio.Task)]
    stats = sink.stats()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "hubs": stats.channels,
        "watchers": stats.watchers,
        "connections": gateway.connections,
        "tasks": sum(not task.done() for task in tasks),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "rss_mib": round(pages * resource.getpagesize() / 2**20, 1),
    }


async def produce(sink: tokenwire.Sink) -> None:
    """Write responses into a few channels, without an end."""
    for number in range(10**9):
        with sink.respond(f"c{number % WRITTEN}") as response:
            for n in range(50):
                response.write(redis_common.token(n))
                await asyncio.sleep(0.002)


async def cancel_opening(sink: tokenwire.Sink) -> None:
    """Cancel watches after none, one or a few steps of their opening, without an end."""
    while True:
        watch = sink.watch(f"c{random.randrange(WATCHED)}", rewind="all")
        opening = asyncio.create_task(watch.aopen())
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await watch.aclose()
        await asyncio.sleep(0.02)


async def prime(sink: tokenwire.Sink) -> None:
    """Have what a sink opens once, at first use, opened; and something long to be slow with."""
    async with sink.watch("big"):
        with sink.respond("big") as response:
            for _ in range(32):
                response.write("x" * 32768)
        await response.await_(30)


async def serve(url: str) -> None:
    backend: Any = url + "?" + "&".join(f"{name}={value}" for name, value in KEEP.items())
    if url == "memory://":
        backend = tokenwire.MemoryBackend(retention=Retention(**KEEP))
    sink = tokenwire.open_sink(backend, ring_events=64, ring_bytes=65536)
    gateway = Gateway(sink, limits=Limits(send_timeout=SEND_TIMEOUT, **RATES))
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)  # a slow reader is soon seen
    server = uvicorn.Server(
        uvicorn.Config(
            gateway,
            log_level="critical",
            http="tokenwire_adapters.uvicorn:HttpProtocol",
            ws="tokenwire_adapters.uvicorn:WebSocketProtocol",
        )
    )
    serving = asyncio.create_task(server.serve([listener]))
    await prime(sink)
    busy: list[asyncio.Task[None]] = []
    redis_common.show(port=listener.getsockname()[1])
    while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if command == "begin":
            busy = [asyncio.create_task(work(sink)) for work in (produce, cancel_opening)]
        elif command == "end":
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
        redis_common.show(**sample(sink, gateway))
    serving.cancel()


# -- clients


class Client:
    """A connection with small buffers to the gateway."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.raw = socket.socket()
        self.writer: asyncio.StreamWriter | None = None

    async def request(self, path: str, headers: str = "") -> asyncio.StreamReader:
        """Connect, and send a request."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self.raw, ("127.0.0.1", self.port))
        reader, self.writer = await asyncio.open_connection(sock=self.raw, limit=2048)
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        return reader

    async def watch(self, kind: str, channel: str, *, whole: bool = True) -> asyncio.StreamReader:
        """Ask for a channel, by SSE or WebSocket; by the latter, perhaps with half a message."""
        if kind == "sse":
            return await self.request(f"/channels/{channel}/events?rewind=all")
        reader = await self.request("/ws", UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        asked = {"op": "subscribe", "id": 1, "channel": channel, "rewind": "all"}
        message = json.dumps(asked).encode()
        frame = bytes((0x81, 0x80 | len(message), 0, 0, 0, 0)) + message
        assert self.writer
        self.writer.write(frame if whole else frame[: len(frame) // 2])
        return reader


async def hang_up(client: Client) -> None:
    """Go away within a handshake, a subscribe or an answer, or before it."""
    channel = f"c{random.randrange(WATCHED)}"
    if random.random() < 0.2:
        await client.request("/ws", UPGRADE)
    else:
        await client.watch(random.choice(KINDS), channel, whole=random.random() < 0.7)
    await asyncio.sleep(random.choice((0, 0.001, 0.005, 0.02)))


async def read_nothing(client: Client) -> None:
    """Ask for much, and read nothing until the gateway has dropped this."""
    await client.watch(random.choice(KINDS), "big")
    await asyncio.sleep(SEND_TIMEOUT * 3)


async def visit(client: Client) -> None:
    """Read for a while."""
    reader = await client.watch(random.choice(KINDS), f"c{random.randrange(2 * WRITTEN)}")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(random.uniform(0.1, 2)):
            while await reader.read(65536):
                pass


async def repeat(do: Any, port: int, counts: Counter[str]) -> None:
    """Be one such client after the other, without an end."""
    while True:
        client = Client(port)
        try:
            await do(client)
            counts[do.__name__] += 1
        except (OSError, EOFError):
            counts["refused or reset"] += 1
        finally:
            if client.writer:
                random.choice((client.writer.transport.abort, client.writer.close))()
            else:
                client.raw.close()
        await asyncio.sleep(0.02)


# -- the run


async def ask(server: Popen[str], command: str) -> dict[str, Any]:
    """Give the gateway's process a command; return a sample, or what it says at first."""
    assert server.stdin
    assert server.stdout
    server.stdin.write(command)
    server.stdin.flush()
    answer: dict[str, Any] = json.loads(await asyncio.to_thread(server.stdout.readline))
    return answer


async def settle(server: Popen[str], begin: dict[str, Any]) -> dict[str, Any]:
    """Sample until all that `begin` has is back there, or it is too late."""
    deadline = time.monotonic() + SETTLE
    while True:
        now = await ask(server, "sample\n")
        if not left_over(begin, now) or time.monotonic() > deadline:
            return now
        await asyncio.sleep(1)


def left_over(begin: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name in COUNTED if name in begin and now[name] > begin[name]]


def count_dropped(port: int) -> int:
    """How many clients the gateway has dropped since they did not read."""
    metrics = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    found = re.search(r'gateway_dropped_total\{reason="slow"\} ([\d.]+)', metrics)
    return int(float(found[1])) if found else 0


async def run(server: Popen[str], seconds: float, bound: float) -> bool:
    """Let clients come and go for so many seconds; return whether all was flat."""
    port = (await ask(server, ""))["port"]
    begin = await settle(server, {"hubs": 0})
    await ask(server, "begin\n")
    counts: Counter[str] = Counter()
    samples: list[tuple[float, dict[str, Any]]] = []
    clients = [
        asyncio.create_task(repeat(do, port, counts))
        for do, many in ((hang_up, 6), (read_nothing, 12), (visit, 12))
        for _ in range(many)
    ]
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds:
        samples.append((passed, await ask(server, "sample\n")))
        await asyncio.sleep(min(3.0, seconds / 20))
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await ask(server, "end\n")
    dropped = count_dropped(port)
    end = await settle(server, begin)
    warm = next(one for passed, one in samples if passed >= seconds / 10)
    growth = max(samples[-1][1]["rss_mib"], end["rss_mib"]) - warm["rss_mib"]
    wrong = left_over(begin, end) + ["memory"] * (growth > bound) + ["drops"] * (not dropped)
    rows = {"begin": begin, "after a tenth": warm, "last": samples[-1][1], "end": end}
    figures = {"clients": dict(counts), "dropped": dropped, "growth_mib": round(growth, 1)}
    redis_common.show(**figures, seconds=seconds, bound_mib=bound, flat=not wrong, **rows)
    print("\n| | " + " | ".join(begin) + " |\n|" + " --- |" * (len(begin) + 1))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(map(str, row.values())) + " |")
    print(f"\n{'NOT FLAT: ' * bool(wrong)}{', '.join(wrong) or 'flat'}; memory {growth:+.1f} MiB")
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", default="memory://", help="memory:// or redis")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--bound", type=float, default=16, help="MiB of growth after a tenth")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.url))
        return
    needed = redis_common.server() if options.url == "redis" else contextlib.nullcontext()
    with needed as redis:
        command = [sys.executable, __file__, redis.url if redis else options.url, "--serve"]
        server = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
        try:
            flat = asyncio.run(run(server, options.minutes * 60, options.bound))
        finally:
            server.kill()
            server.wait()
    sys.exit(not flat)


if __name__ == "__main__":
    main()
