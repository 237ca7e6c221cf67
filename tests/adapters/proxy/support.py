"""A proxy that runs on a thread, and an upstream that records and sends raw bytes."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import tokenwire
from tokenwire_adapters._tools.cli import proxy_server, server
from tokenwire_adapters.proxy import Proxy

__all__ = ["RawServer", "raw_request", "running"]


@contextmanager
def running(upstreams: Mapping[str, str], sink: tokenwire.Sink, **options: Any) -> Iterator[str]:
    """Run a proxy while the block runs; its address, ``http://127.0.0.1:PORT``."""
    app = Proxy(upstreams, sink, **options)
    with server.bound_socket("127.0.0.1", 0) as listener, proxy_server.serving(app, listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def raw_request(origin: str, request: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes."""
    port = int(origin.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        pieces: list[bytes] = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


class RawServer:
    """Answers each request with the same bytes, and closes the connection.

    :ivar requests: the bytes of each request.
    """

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(60)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(60)
                self.requests.append(_read_request(connection))
                with contextlib.suppress(OSError):
                    connection.sendall(self._reply)


def _read_request(connection: socket.socket) -> bytes:
    """Read one request to its end, or to where its client closes."""
    data = b""
    while not _is_whole(data) and (piece := connection.recv(65536)):
        data += piece
    return data


def _is_whole(data: bytes) -> bool:
    head, blank, body = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(blank) and len(body) >= (int(length[1]) if length else 0)
