"""How the command line runs uvicorn: bounded, masked, on a socket that is bound beforehand."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tokenwire_adapters._tools.cli.errors import Failure

__all__ = ["bound_socket", "config"]

HEADER_TIMEOUT = 15.0
"""Seconds that the head of a request may take."""


class _Patient(H11Protocol):
    """uvicorn's HTTP/1.1, which drops clients that send the head of a request too slowly.

    uvicorn's own `timeout_keep_alive` ends with the first byte of a request, and begins after a
    first response.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE or not self.conn.trailing_data[0]:
            self._stop_waiting()
        elif self._waiting is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEADER_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


def config(app: Any, *, connections: int = 10_000, **options: Any) -> uvicorn.Config:
    """Settings for a server that faces clients it does not know.

    :param connections: how many the app admits; a few more are taken, so that it can say no.
    :param options: what `uvicorn.Config` takes, in place of what is set here.
    """
    settings: dict[str, Any] = {
        "http": _Patient,
        "ws": "websockets-sansio",
        "h11_max_incomplete_event_size": 40 * 1024,  # a request's head, as the gateway bounds it
        "ws_max_size": 128 * 1024,
        "ws_max_queue": 16,
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 30.0,
        "timeout_keep_alive": 10,
        "timeout_graceful_shutdown": 5,
        "limit_concurrency": connections + 200,
        "backlog": 2048,
        "proxy_headers": False,
        "server_header": False,
        "lifespan": "auto",
        "log_level": "info",
        **options,
    }
    return uvicorn.Config(app, **settings)


@contextmanager
def bound_socket(host: str, port: int, *, fall_back: bool = False) -> Generator[socket.socket]:
    """Bind before anything else starts, so that a port in use is told at once.

    :param fall_back: take a free port where this one is in use.
    :raises Failure: when it cannot be bound.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Failure(f"{host} is not an address of this machine: {error}") from error
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError as error:
            if not (fall_back and error.errno == errno.EADDRINUSE):
                raise Failure(_why(host, port, error)) from error
            listening.bind((address[0], 0))
        listening.set_inheritable(True)
        listening.listen(2048)  # who is told the address may come before the server runs
        yield listening


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; give another with --port (0 takes a free one)"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user does not have; give one above 1023"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
