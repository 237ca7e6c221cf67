"""What the listener on HTTP clients costs a program.

    python benchmarks/http_overhead.py [--rounds 15] [--requests 150]

CPU time of the process, with the listener on and off in alternating rounds of one run, over
loopback, from a server in a process of its own. First requests whose replies are no models'
streams: a GET, a POST elsewhere, and a POST to a path that a model's API may have. Then streams of
Chat Completions of 300 events, read with ``iter_lines`` and decoded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

import tokenwire
from tokenwire.instrument import Options
from tokenwire_adapters.http import httpx as listener

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
TOKENS = 300


def _events() -> list[bytes]:
    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"

    tokens = [event({"content": f"token {index} "}) for index in range(TOKENS - 1)]
    return [*tokens, event({}, "stop"), b"data: [DONE]\n\n"]


EVENTS = _events()


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(b'{"ok": true}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if not self.path.endswith("/chat/completions"):
            self._send(b'{"ok": true}')
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in EVENTS:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _serve(ready: Any) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    ready.put(server.server_address[1])
    server.serve_forever()


def _stream(client: httpx.Client) -> None:
    with client.stream("POST", "/v1/chat/completions", json=CHAT) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                json.loads(line[6:])


CASES: dict[str, Callable[[httpx.Client], object]] = {
    "GET /items": lambda client: client.get("/items"),
    "POST /items": lambda client: client.post("/items", json={"a": 1}),
    "POST /messages": lambda client: client.post("/messages", json={"a": 1}),
    f"stream of {TOKENS}": _stream,
}


def _cpu(case: Callable[[httpx.Client], object], client: httpx.Client, requests: int) -> float:
    start = time.process_time()
    for _ in range(requests):
        case(client)
    return (time.process_time() - start) / requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=150)
    arguments = parser.parse_args()
    options = Options(tokenwire.open_sink("memory://http-overhead"), "c")
    print(f"{'':16}{'alone':>12}{'added':>12}{'fastest':>10}{'median':>10}")
    ready: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=_serve, args=(ready,), daemon=True)
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{ready.get()}") as client:
        for name, case in CASES.items():
            requests = max(1, arguments.requests // (30 if case is _stream else 1))
            alone: list[float] = []
            listened: list[float] = []
            for round_ in range(arguments.rounds + 1):
                off = _cpu(case, client, requests)
                listener.start(options)
                on = _cpu(case, client, requests)
                listener.stop()
                if round_:  # the first one warms up
                    alone.append(off)
                    listened.append(on)
            fastest = min(listened) / min(alone) - 1
            pairs = [on / off - 1 for on, off in zip(listened, alone, strict=True)]
            median = statistics.median(pairs)
            added = (min(listened) - min(alone)) * 1e6
            print(
                f"{name:16}{min(alone) * 1e6:9.1f} µs{added:9.2f} µs{fastest:+10.2%}{median:+10.2%}"
            )


if __name__ == "__main__":
    main()
