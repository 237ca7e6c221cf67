"""Load on the gateway: thousands of watchers of one channel, clients in their own process.

    python benchmarks/gateway_load.py soak --sse 2000 --ws 2000 --rate 60 --seconds 120
    python benchmarks/gateway_load.py compare --sse 1000 --rounds 3
    python benchmarks/gateway_load.py full --out gateway.json

`soak` checks that nothing is lost, and reports latency, CPU and memory. `compare` runs the gateway,
a bare loop that writes the same pre-encoded bytes to as many sockets (event by event, and with what
has gathered joined in one write), and a naive sse-starlette fan-out with a queue for each watcher,
one after the other, several rounds, and reports ratios; `--kinds gateway nchan durable` compares
with those instead. `full` does both, as they are above, in about ten minutes on a quiet machine,
and writes all figures and what they were measured on to a file; `--seconds`, `--sse`, `--ws` and
`--rounds` make it shorter.

Servers run on uvicorn with uvloop and httptools where they are installed. `naive` needs
sse-starlette, `nchan` nginx with that module, `durable` (Durable Streams' server with its store in
memory, `-file` with one in files, `-long` with a long stream) Node and npm. A delivery is one token
at one watcher.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.metadata
import json
import os
import re
import resource
import select
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import durable_streams
import nchan

MARK = b"^|$"  # ends each token, and is nowhere else: not in the head of a WebSocket frame either
ENDS = re.compile(rb'"type":"(end|finish|RUN_FINISHED)"')  # natively, or in a UI protocol
END = b'"type":"end"'
TIMES = re.compile(rb"(\d{10,})\^\|\$")
SAMPLED = 100
SO_TIMESTAMPNS = 35  # of Linux; the socket module does not name it before Python 3.14


# -- servers, each in a process of its own


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def send_reply(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def produce(write: Any, end: Any, rate: float, seconds: float) -> int:
    """Write a token, which is the time, `rate` times a second, as evenly as the machine lets us."""
    begin, n = time.monotonic(), 0
    while n < rate * seconds:
        write(f"{time.monotonic_ns()}{MARK.decode()}")
        n += 1
        pause = begin + n / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
    end()
    return n


def command_loop(write: Any, end: Any, stats: Any) -> None:
    """Do what the parent says, in a thread."""
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "produce":
            used = os.times()
            send_reply(produced=produce(write, end, command["rate"], command["seconds"]))
            done = sys.stdin.readline()
            assert json.loads(done)["do"] == "measure"
            now = os.times()
            send_reply(cpu=now.user + now.system - used.user - used.system, **stats())
    os._exit(0)


def serve_gateway(loop: str) -> None:
    """The gateway on uvicorn with our protocol, which hands over transports."""
    serve_channels(loop, "tokenwire_adapters.uvicorn:HttpProtocol")


def serve_asgi(loop: str) -> None:
    """The gateway on any other ASGI server."""
    serve_channels(loop, "auto")


def serve_channels(loop: str, http: str) -> None:
    import uvicorn

    import tokenwire
    from tokenwire_adapters.ag_ui import AgentRoutes
    from tokenwire_adapters.asgi import Gateway, Limits
    from tokenwire_adapters.vercel import ChatRoutes

    sink = tokenwire.open_sink(tokenwire.MemoryBackend())
    many = 10**6
    limits = Limits(
        connections=many, connections_per_client=many, request_rate=many, request_burst=many
    )
    gateway = Gateway(sink, limits=limits)
    apps = {
        "api": ChatRoutes(sink, asked_nothing, limits=limits),
        "agent": AgentRoutes(sink, asked_nothing, path="/agent", limits=limits),
    }
    response = sink.respond("c", response_id="r1")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await apps.get(scope["path"].split("/")[1], gateway)(scope, receive, send)

    def stats() -> dict[str, Any]:
        reading = sink.stats().reading
        return {
            "conflations": reading.conflations,
            "dropped": gateway._service.traffic.connections.dropped,
        }

    run_app(uvicorn, app, loop, response.write, response.finish, stats, http)


async def asked_nothing(turn: Any) -> None:
    """The agent of routes that are only watched."""


def run_app(
    uvicorn: Any,
    app: Any,
    loop: str,
    write: Any,
    end: Any,
    stats: Any,
    http: str = "auto",
    host: str = "127.0.0.1",
) -> None:
    listener = socket.create_server((host, 0), backlog=4096)
    options: dict[str, Any] = {"http": http}
    if loop == "asyncio":
        options = {
            "loop": "asyncio",
            "http": "h11" if http == "auto" else "tokenwire_adapters.uvicorn:H11Protocol",
        }
    # The clients of this benchmark do not answer pings.
    options["ws_ping_interval"] = None
    if http != "auto":
        options["ws"] = "tokenwire_adapters.uvicorn:WebSocketProtocol"
    config = uvicorn.Config(
        app,
        log_level="error",
        lifespan="off",
        ws_per_message_deflate=False,
        access_log=False,
        **options,
    )
    send_reply(port=listener.getsockname()[1])
    threading.Thread(target=command_loop, args=(write, end, stats), daemon=True).start()
    uvicorn.Server(config).run([listener])


def encoded_events() -> Any:
    """What the gateway would send for a token, made once for all."""
    from tokenwire.encoding import Frame
    from tokenwire.events import DeltaEvent, encode_json

    offset, n = 0, 0

    def encode(text: str) -> Frame:
        nonlocal offset, n
        n += 1
        cursor = f"5f0c11aa-{n}"
        event = DeltaEvent(
            response_id="r1",
            part=0,
            kind="text",
            offset=offset,
            text=text,
            cursor=cursor,
            ts=int(time.time() * 1000),
        )
        offset += len(text)
        return Frame(encode_json(event), id=cursor)

    return encode


def serve_joined(loop: str) -> None:
    """The ceiling: what has gathered in one turn of the loop, in one write to every socket."""
    serve_bare(loop, join=True)


def serve_bare(loop: str, *, join: bool = False) -> None:
    """As little as can be: the bytes, to every socket, one write for each event."""

    async def main() -> None:
        transports: list[asyncio.Transport] = []

        class Answer(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                transport: Any = self.transport
                transport.write(HEAD)
                transports.append(transport)

        running = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        await running.create_server(Answer, sock=listener)
        encode = encoded_events()

        pending: list[bytes] = []

        def publish(data: bytes) -> None:
            pending.append(data)
            if not join:
                flush()
            elif len(pending) == 1:
                running.call_soon(flush)

        def flush() -> None:
            data = b"".join(pending)
            pending.clear()
            chunk = b"%x\r\n%s\r\n" % (len(data), data)
            for transport in transports:
                transport.write(chunk)

        def write(text: str) -> None:
            running.call_soon_threadsafe(publish, encode(text).sse())

        def end() -> None:
            running.call_soon_threadsafe(publish, b"data: {" + END + b"}\n\n")

        send_reply(port=listener.getsockname()[1])
        threading.Thread(target=command_loop, args=(write, end, dict), daemon=True).start()
        await asyncio.Event().wait()

    if loop != "asyncio":
        with contextlib.suppress(ImportError):
            import uvloop

            uvloop.run(main())
            return
    asyncio.run(main())


def serve_naive(loop: str) -> None:
    """sse-starlette, with a queue for each watcher, as its documentation shows it."""
    import uvicorn
    from sse_starlette import EventSourceResponse
    from starlette.applications import Starlette
    from starlette.routing import Route

    queues: set[asyncio.Queue[dict[str, str]]] = set()
    loops: list[asyncio.AbstractEventLoop] = []

    async def events(request: Any) -> EventSourceResponse:
        loops.append(asyncio.get_running_loop())

        async def body() -> Any:
            queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()
            queues.add(queue)
            yield {"event": "ready", "data": '{"type":"ready"}'}
            while True:
                yield await queue.get()

        return EventSourceResponse(body())

    encode = encoded_events()

    def publish(event: dict[str, str]) -> None:
        for queue in queues:
            queue.put_nowait(event)

    def write(text: str) -> None:
        frame = encode(text)
        event = {"id": frame.id or "", "data": frame.data.decode()}
        loops[0].call_soon_threadsafe(publish, event)

    def end() -> None:
        loops[0].call_soon_threadsafe(publish, {"data": "{" + END.decode() + "}"})

    app = Starlette(routes=[Route("/channels/c/events", events)])
    run_app(uvicorn, app, loop, write, end, dict)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SERVERS = {
    "gateway": serve_gateway,
    "asgi": serve_asgi,
    "joined": serve_joined,
    "bare": serve_bare,
    "naive": serve_naive,
}
PEERS: dict[str, Any] = {  # classes
    "nchan": nchan.Nchan,
    "durable": durable_streams.DurableStreams,
    "durable-file": durable_streams.DurableFile,
    "durable-long": durable_streams.DurableLong,
}


class Server:
    """A server in a process of its own."""

    stream = "sse"  # which of `STREAMS` watchers read

    def __init__(self, kind: str, loop: str) -> None:
        self._start([sys.executable, __file__, "--serve", kind, "--loop", loop])

    @classmethod
    def of(cls, command: list[str]) -> Server:
        """One that a command starts."""
        server = cls.__new__(cls)
        server._start(command)
        return server

    def _start(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port: int = self.read_reply()["port"]

    def send_command(self, **command: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def read_reply(self) -> dict[str, Any]:
        assert self._process.stdout
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply

    @property
    def memory(self) -> int:
        """Resident memory, in bytes."""
        with open(f"/proc/{self._process.pid}/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


# -- clients, all in this process


ACCEPT = "Accept: text/event-stream\r\n"  # without which nchan serves nobody
STREAMS = {  # where they are, and what says that one has begun
    "sse": ("/channels/c/events", b"\r\n\r\n"),
    "chat": ("/api/chat/c/stream", b'"type":"start"'),
    "ag-ui": ("/agent/c/stream", b"RUN_STARTED"),
    "durable": ("/channels/c/events?live=sse&offset=now", b'"upToDate":true'),
}


class Client:
    """One watcher. Counts; those that are sampled also read the times."""

    __slots__ = ("count", "ended", "kind", "sampled", "socket", "tail")

    def __init__(self, port: int, kind: str, sampled: bool, host: str) -> None:
        self.kind = kind
        self.count = 0
        self.ended = False
        self.sampled = sampled
        self.tail = b""
        self.socket = socket.create_connection((host, port), 60)
        head = f"Host: {host}:{port}\r\n"
        if kind in STREAMS:
            self.socket.sendall(f"GET {STREAMS[kind][0]} HTTP/1.1\r\n{head}{ACCEPT}\r\n".encode())
        else:
            self.socket.sendall(
                f"GET /channels/c/ws HTTP/1.1\r\n{head}Upgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n".encode()
            )

    def greet(self) -> None:
        """Wait until the server has answered, and be subscribed."""
        data = b""
        begin = b"\r\n\r\n" if self.kind == "ws" else STREAMS[self.kind][1]
        while begin not in data:
            data += self.socket.recv(65536)
        if self.kind == "ws":
            assert b" 101 " in data
            message = b'{"op":"subscribe","id":1}'
            self.socket.sendall(bytes((0x81, 0x80 | len(message), 0, 0, 0, 0)) + message)
            while b'"events":[' not in data:
                data += self.socket.recv(65536)
        self.socket.setblocking(False)
        if self.sampled:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def _receive(self) -> tuple[bytes, int]:
        """What has come, and when the last of it reached this machine's kernel.

        When this process comes to read it is no time of the server's: thousands of clients share a
        core here.
        """
        data, ancillary, _, _ = self.socket.recvmsg(1 << 20, 64)
        now, realtime = time.monotonic_ns(), time.time_ns()
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("qq", value[:16])
                now -= realtime - (seconds * 10**9 + nanoseconds)
        return data, now

    def read(self, latencies: list[float]) -> None:
        data, arrived = self._receive() if self.sampled else (self.socket.recv(1 << 20), 0)
        if not data:
            raise ConnectionError("the server closed")
        seen = self.tail + data
        self.count += seen.count(MARK)
        if ENDS.search(seen):
            self.ended = True
        if self.sampled:
            latencies.extend((arrived - int(at)) / 1e6 for at in TIMES.findall(seen))
        # What was counted is not to be counted again.
        self.tail = seen[max(seen.rfind(MARK) + len(MARK), len(seen) - 32) :]


def connect(port: int, kinds: list[str], host: str = "127.0.0.1") -> list[Client]:
    clients: list[Client] = []
    every = max(1, len(kinds) // SAMPLED)
    for begin in range(0, len(kinds), 200):
        group = [
            Client(port, kind, (begin + i) % every == 0, host)
            for i, kind in enumerate(kinds[begin : begin + 200])
        ]
        for client in group:
            client.greet()
        clients += group
    return clients


def read_all(clients: list[Client], deadline: float) -> tuple[list[float], float]:
    """Read until every client has seen the end; latencies of the sampled, and when that was."""
    poll = select.epoll()
    by_fd = {client.socket.fileno(): client for client in clients}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    latencies: list[float] = []
    waiting = len(clients)
    while waiting and time.monotonic() < deadline:
        for fd, _ in poll.poll(1, 1024):
            client = by_fd[fd]
            client.read(latencies)
            if client.ended:
                poll.unregister(fd)
                waiting -= 1
    poll.close()
    return latencies, time.monotonic()


def run(kind: str, options: argparse.Namespace, *, rate: float, seconds: float) -> dict[str, Any]:
    server = PEERS[kind]() if kind in PEERS else Server(kind, options.loop)
    try:
        time.sleep(0.5)
        empty = server.memory
        ours = kind in ("gateway", "asgi")
        counts = {server.stream: options.sse, "ws": options.ws if ours else 0}
        counts |= {"chat": options.chat, "ag-ui": options.ag_ui} if ours else {}
        clients = connect(server.port, [one for one, n in counts.items() for _ in range(n)])
        time.sleep(0.5)
        idle = server.memory
        begin = time.monotonic()
        server.send_command(do="produce", rate=rate, seconds=seconds)
        used = os.times()
        latencies, end = read_all(clients, begin + seconds * 6 + 120)
        now = os.times()
        produced = server.read_reply()["produced"]
        server.send_command(do="measure")
        measured = server.read_reply()
        peak = server.memory
        complete = sum(client.ended and client.count == produced for client in clients)
        latencies.sort()
        delivered = sum(client.count for client in clients)
        for client in clients:
            client.socket.close()
        return {
            "kind": kind,
            "watchers": len(clients),
            "tokens": produced,
            "delivered": delivered,
            "complete": complete,
            "seconds": round(end - begin, 2),
            "deliveries_per_second": round(delivered / (end - begin)),
            "deliveries_per_cpu_second": round(delivered / max(0.01, measured.pop("cpu"))),
            "client_cpu": round(now.user + now.system - used.user - used.system, 1),
            "p50_ms": round(latencies[len(latencies) // 2], 1) if latencies else None,
            "p99_ms": round(latencies[int(len(latencies) * 0.99)], 1) if latencies else None,
            "kib_per_watcher": round((idle - empty) / 1024 / len(clients), 1),
            "kib_per_watcher_at_end": round((peak - empty) / 1024 / len(clients), 1),
            **measured,
        }
    finally:
        server.stop()


def soak(options: argparse.Namespace) -> dict[str, Any]:
    result = run("gateway", options, rate=options.rate, seconds=options.seconds)
    print(json.dumps(result, indent=2), flush=True)
    return result


def check(result: dict[str, Any]) -> None:
    """Leave with an error where anything was lost."""
    if result["complete"] != result["watchers"]:
        sys.exit(f"{result['watchers'] - result['complete']} watchers did not get every token")


def full(options: argparse.Namespace) -> None:
    """Everything that is reported, and what it was measured on."""
    importlib.import_module("sse_starlette")  # rather now than after the long part
    report: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg()}
    report["soak"] = soak(options)
    options.sse, options.ws, options.chat, options.ag_ui = min(options.sse, 1000), 0, 0, 0
    report["compare"] = compare(options)
    report["load_after"] = os.getloadavg()
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
    print(f"written to {options.out}")
    check(report["soak"])


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    versions: dict[str, str | None] = {}
    for name in ("uvicorn", "uvloop", "httptools", "websockets", "starlette", "sse-starlette"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    cores = len(os.sched_getaffinity(0))
    return {"python": sys.version.split()[0], "cores": cores, "packages": versions}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Each kind in turn, over and over: what disturbs the machine disturbs them all."""
    report: dict[str, Any] = {}
    for name, rate, seconds in (("paced", 60.0, 5.0), ("flat out", options.flat_out, 1.0)):
        if not rate:
            continue
        results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in options.kinds}
        for _ in range(options.rounds):
            for kind in options.kinds:
                result = run(kind, options, rate=rate, seconds=seconds)
                results[kind].append(result)
                print(name, json.dumps(result), flush=True)
        report[name] = {"results": results, "first_as_a_ratio_of": {}}
        for field in ("deliveries_per_second", "deliveries_per_cpu_second"):
            for other in options.kinds[1:]:
                pairs = zip(results[options.kinds[0]], results[other], strict=True)
                ratios = sorted(one[field] / two[field] for one, two in pairs)
                print(
                    f"{name}: {field}, {options.kinds[0]} / {other}:"
                    f" {statistics.median(ratios):.2f}  {ratios}"
                )
                report[name]["first_as_a_ratio_of"][f"{other}, {field}"] = ratios
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["soak", "compare", "full"], default="soak")
    parser.add_argument("--sse", type=int, default=2000)
    parser.add_argument("--ws", type=int, default=2000)
    parser.add_argument("--chat", type=int, default=0, help="watchers of useChat's protocol")
    parser.add_argument("--ag-ui", type=int, default=0, help="watchers of AG-UI")
    parser.add_argument("--rate", type=float, default=60.0, help="tokens a second")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument(
        "--flat-out",
        type=float,
        default=1000.0,
        help="tokens a second, more than any server can do; 0: only the pace above",
    )
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=[*SERVERS, *PEERS],
        default=list(SERVERS),
        help="what is compared, the first one with all others",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="gateway.json", help="where `full` writes its report")
    parser.add_argument("--loop", choices=["auto", "asyncio"], default="auto")
    parser.add_argument("--serve", choices=list(SERVERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    raise_file_limit()
    if options.serve:
        SERVERS[options.serve](options.loop)
    elif options.what == "soak":
        check(soak(options))
    elif options.what == "full":
        full(options)
    else:
        options.ws = 0
        compare(options)


if __name__ == "__main__":
    main()
