"""Is every watcher given every token, for as long as it lasts?

    python benchmarks/gateway_soak.py --minutes 10 --responses 500 --watchers 5000
    python benchmarks/gateway_soak.py --minutes 0.05 --responses 20 --watchers 40

A gateway runs in a process of its own, over transports that the server hands over, with a producer
that keeps so many responses open in a tenth as many channels. Watchers of both kinds (event streams
and WebSockets) check each delta and snapshot against the text that the response must have, which
its id says. Meanwhile some of them hang up and resume where they were, and some do not read for a
while. It prints one line of JSON and exits with 1 unless nothing was wrong, nothing was lost, and
the resident memory has grown by no more than `--bound` MiB after the first tenth of the time.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import select
import socket
import sys
import threading
import time
from typing import Any

import gateway_load

TOKENS = 40  # of one response
KEPT = 10**6
KEPT_RESPONSES = 4  # of a channel: as many as end within a tenth of ten minutes at 200 tokens/s
TEXT_FRAME = 0x81
LATE = 60.0  # seconds that what was written may take to arrive at the end
AWAY = 0.002  # of the watchers, those that hang up, and those that begin to rest, a second


def token(response_id: str, number: int) -> str:
    """The text of a token; in every tenth channel they are long, so that who rests falls behind."""
    long = response_id.startswith("0.")
    return f"{response_id}/{number} " + "x" * (2000 if long else 0)


@functools.lru_cache(10_000)
def whole(response_id: str) -> str:
    """The text that a response must have once it is complete."""
    return "".join(token(response_id, number) for number in range(TOKENS))


# -- the gateway's process


def serve(channels: int, responses: int, rate: float, keep: int) -> None:
    """Serve, and write until a command stops it; then reply how many responses each channel had."""
    import uvicorn

    import tokenwire
    from tokenwire.memory import Retention
    from tokenwire_adapters.asgi import Gateway, Limits

    retention = Retention(responses=KEPT_RESPONSES, events=keep)
    backend = tokenwire.MemoryBackend(retention=retention)
    sink = tokenwire.open_sink(backend, ring_events=keep // 2)
    limits = Limits(
        connections=KEPT, connections_per_client=KEPT, request_rate=KEPT, request_burst=KEPT
    )
    gateway = Gateway(sink, limits=limits)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    gateway_load.send_reply(port=listener.getsockname()[1])

    def produce(stop: threading.Event) -> list[int]:
        ended, number, begun = [0] * channels, 0, time.monotonic()
        slots: list[Any] = [None] * responses
        written = [0] * responses
        serial = [0] * channels
        while not stop.is_set() or any(slots):
            slot = number % responses
            channel = slot % channels
            if slots[slot] is None and not stop.is_set():
                name = f"{channel % 10}.{channel}.{serial[channel]}"
                serial[channel] += 1
                slots[slot] = sink.respond(str(channel), response_id=name)
                written[slot] = 0
            if slots[slot] is not None:
                slots[slot].write(token(slots[slot].id, written[slot]))
                written[slot] += 1
                if written[slot] == TOKENS:
                    slots[slot].finish()
                    slots[slot] = None
                    ended[channel] += 1
            number += 1
            pause = begun + number / rate - time.monotonic()
            if pause > 0 and not stop.is_set():
                time.sleep(pause)
        return ended

    def command() -> None:
        stop = threading.Event()
        result: list[list[int]] = []
        sys.stdin.readline()  # all watchers are there
        producer = threading.Thread(target=lambda: result.append(produce(stop)))
        producer.start()
        sys.stdin.readline()
        stop.set()
        producer.join()
        reading, traffic = sink.stats().reading, gateway._service.traffic
        gateway_load.send_reply(
            ended=result[0],
            conflations=reading.conflations,
            dropped=traffic.connections.dropped,
            members=len(traffic.connections),
        )

    threading.Thread(target=command, daemon=True).start()
    config = uvicorn.Config(
        gateway,
        log_level="error",
        lifespan="off",
        http="tokenwire_adapters.uvicorn:HttpProtocol",
        ws="tokenwire_adapters.uvicorn:WebSocketProtocol",
        ws_ping_interval=None,
    )
    uvicorn.Server(config).run([listener])


# -- watchers


@functools.lru_cache(20_000)
def decoded(data: bytes) -> Any:
    """A message; most are the same for many watchers."""
    return json.loads(data)


class Watcher:
    """Reads one channel, and checks what it is given.

    :ivar lengths: of each response that it has seen, as far as it has come.
    :ivar wrong: how often something was not as it must be.
    :ivar resets: how often the gateway said that the log no longer had what it resumed after.
    """

    def __init__(self, port: int, kind: str, channel: int) -> None:
        self.kind = kind
        self.channel = channel
        self.lengths: dict[str, int] = {}
        self.ended: set[str] = set()
        self.wrong = self.resets = self.resumed = self.deliveries = 0
        self.cursor: str | None = None
        self.rests_until = 0.0
        self._port = port
        self.connect()

    def connect(self) -> None:
        """Connect, and ask for what comes after the cursor."""
        self._buffer = b""
        self._head = True
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", self._port))
        host = "Host: 127.0.0.1\r\n"
        if self.kind == "sse":
            last = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
            path = f"/channels/{self.channel}/events"
            self.socket.sendall(f"GET {path} HTTP/1.1\r\n{host}{last}\r\n".encode())
        else:
            self.socket.sendall(
                f"GET /channels/{self.channel}/ws HTTP/1.1\r\n{host}Upgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n".encode()
            )
        self.socket.setblocking(False)

    def read(self) -> None:
        """Take what has come. :raises ConnectionError: where the server has hung up."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed")
        self._buffer += data
        if self._head:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 200 " in head or b" 101 " in head, head
            self._buffer, self._head = rest, False
            if self.kind == "ws":
                self._subscribe()
        if self.kind == "sse":
            self._read_blocks()
        else:
            self._read_frames()

    def _subscribe(self) -> None:
        after = {"after": self.cursor} if self.cursor else {}
        message = json.dumps({"op": "subscribe", "id": 1, **after}).encode()
        self.socket.sendall(bytes((0x81, 0x80 | len(message), 0, 0, 0, 0)) + message)

    def _read_blocks(self) -> None:
        *blocks, self._buffer = self._buffer.split(b"\n\n")
        for block in blocks:
            fields, found, data = block.rpartition(b"data: ")
            if not found:
                continue  # comments
            _, named, cursor = fields.rpartition(b"id: ")
            if b"event: ready" in fields:
                self.resets += bool(decoded(data).get("reset"))
            elif b"event: " not in fields:
                self.take(decoded(data))
            if named:
                self.cursor = cursor.split(b"\n")[0].decode()

    def _read_frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) >= at + 2:
            size, head = buffer[at + 1], 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(buffer[at + 2 : at + head], "big")
            if len(buffer) < at + head + size:
                break
            text = buffer[at] == TEXT_FRAME
            message = decoded(buffer[at + head : at + head + size]) if text else {"op": None}
            at += head + size
            if message["op"] == "events":
                self.resets += bool(message.get("reset"))
                for event in message["events"]:
                    self.take(event)
                self.cursor = message.get("cursor", self.cursor)
        self._buffer = buffer[at:]

    def take(self, event: dict[str, Any]) -> None:
        """Check an event against the text that its response must have."""
        self.deliveries += 1
        kind = event["type"]
        if kind == "snapshot":
            response = event["response"]
            text = "".join(part["text"] for part in response.get("parts", ()))
            self.wrong += not whole(response["id"]).startswith(text)
            had = self.lengths.get(response["id"], 0)
            self.lengths[response["id"]] = max(had, len(text))
            if response.get("state", "streaming") != "streaming":
                self._end(response["id"], response["state"])
        elif kind == "delta":
            name, offset, text = event["response_id"], event["offset"], event["text"]
            had = self.lengths.get(name, 0)
            self.wrong += offset > had or not whole(name).startswith(text, offset)
            self.lengths[name] = max(had, offset + len(text))
        elif kind == "end":
            self._end(event["response_id"], event["state"])

    def _end(self, name: str, state: str) -> None:
        self.wrong += state != "complete" or self.lengths.get(name, 0) != len(whole(name))
        self.ended.add(name)


class Crowd:
    """All watchers, read by one loop."""

    def __init__(self, port: int, channels: int, watchers: int) -> None:
        self._poll = select.epoll()
        self._by_descriptor: dict[int, Watcher] = {}
        self.watchers: list[Watcher] = []
        for number in range(watchers):
            kind = ("sse", "ws")[number // channels % 2]
            watcher = Watcher(port, kind, number % channels)
            self.watchers.append(watcher)
            self._add(watcher)
            if number % 50 == 0:
                self.read(0)

    def _add(self, watcher: Watcher) -> None:
        self._by_descriptor[watcher.socket.fileno()] = watcher
        self._poll.register(watcher.socket.fileno(), select.EPOLLIN)

    def _remove(self, watcher: Watcher) -> None:
        del self._by_descriptor[watcher.socket.fileno()]
        self._poll.unregister(watcher.socket.fileno())

    def read(self, timeout: float) -> bool:
        """Read what has come; False where nothing did."""
        ready = self._poll.poll(timeout, 1024)
        for descriptor, _ in ready:
            watcher = self._by_descriptor[descriptor]
            try:
                watcher.read()
            except ConnectionError:  # such as one that rested for too long
                self._return(watcher)
        return bool(ready)

    def _return(self, watcher: Watcher) -> None:
        self._remove(watcher)
        watcher.socket.close()
        watcher.resumed += 1
        watcher.connect()
        self._add(watcher)

    def disturb(self, seconds: float) -> None:
        """Have some hang up and resume, and some rest; wake those that have rested."""
        now, many = time.monotonic(), max(1, int(len(self.watchers) * AWAY * seconds))
        for watcher in random.sample(self.watchers, min(len(self.watchers), many)):
            if not watcher.rests_until:
                self._return(watcher)
        for watcher in random.sample(self.watchers, min(len(self.watchers), many)):
            if not watcher.rests_until:
                watcher.rests_until = now + random.uniform(2, 20)
                self._remove(watcher)
        self.wake(now)

    def wake(self, now: float) -> None:
        """Have those read on that have rested until `now`."""
        for watcher in self.watchers:
            if watcher.rests_until and watcher.rests_until <= now:
                watcher.rests_until = 0.0
                self._add(watcher)


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    channels = max(1, options.responses // 10)
    command = [sys.executable, __file__, "--serve", "--responses", str(options.responses)]
    server = gateway_load.Server.of(
        [*command, "--rate", str(options.rate), "--keep", str(options.keep)]
    )
    seconds = options.minutes * 60
    try:
        crowd = Crowd(server.port, channels, options.watchers)
        server.send_command(do="begin")
        begun = disturbed = time.monotonic()
        memory: list[tuple[float, int]] = []
        while (now := time.monotonic()) < begun + seconds:
            crowd.read(0.2)
            if now - disturbed >= min(1.0, seconds / 3):
                crowd.disturb(now - disturbed)
                disturbed = now
                memory.append((now - begun, server.memory))
        crowd.wake(float("inf"))
        server.send_command(do="end")
        replies: list[dict[str, Any]] = []
        reader = threading.Thread(target=lambda: replies.append(server.read_reply()))
        reader.start()
        deadline = time.monotonic() + LATE + seconds

        def missing() -> int:
            return sum(replies[0]["ended"][one.channel] - len(one.ended) for one in crowd.watchers)

        while (not replies or missing()) and time.monotonic() < deadline:
            crowd.read(0.2)
        reader.join()
        warm = next(size for at, size in memory if at >= seconds / 10)
        growth = (max(size for _, size in memory[-3:]) - warm) / 2**20
        lost = missing()
        figures = {
            "watchers": len(crowd.watchers),
            "responses": sum(replies[0]["ended"]),
            "deliveries": sum(one.deliveries for one in crowd.watchers),
            "wrong": sum(one.wrong for one in crowd.watchers),
            "resets": sum(one.resets for one in crowd.watchers),
            "lost": lost,
            "resumed": sum(one.resumed for one in crowd.watchers),
            "conflations": replies[0]["conflations"],
            "dropped": replies[0]["dropped"],
            "mib": round(server.memory / 2**20, 1),
            "growth_mib": round(growth, 1),
            "mib_by_tenth": [
                round(memory[len(memory) * tenth // 10][1] / 2**20, 1) for tenth in range(10)
            ],
            "seconds": seconds,
        }
    finally:
        server.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--responses", type=int, default=500, help="open at a time")
    parser.add_argument("--watchers", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=200, help="tokens a second, of all")
    parser.add_argument("--bound", type=float, default=32, help="MiB of growth after a tenth")
    parser.add_argument("--keep", type=int, default=200, help="events of a channel that are kept")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    gateway_load.raise_file_limit()
    if options.serve:
        serve(max(1, options.responses // 10), options.responses, options.rate, options.keep)
        return
    figures = soak(options)
    print(json.dumps(figures))
    if figures["wrong"] or figures["lost"] or figures["growth_mib"] > options.bound:
        sys.exit(1)


if __name__ == "__main__":
    main()
