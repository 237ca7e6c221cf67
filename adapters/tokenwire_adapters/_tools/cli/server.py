"""Runs uvicorn for the command line: with limits, on a socket that is bound beforehand."""

from __future__ import annotations

import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tokenwire_adapters._tools.cli.errors import Failure
from tokenwire_adapters._tools.cli.quirks import TimedHeadProtocol
from tokenwire_adapters._web.uvicorn.protocols import WebSocketProtocol

__all__ = ["bound_socket", "config"]


def config(app: Any, *, connections: int = 10_000, **options: Any) -> uvicorn.Config:
    """Settings for a server whose clients are not trusted.

    :param connections: how many the app admits; a few more are accepted, for it to refuse.
    :param options: what `uvicorn.Config` takes; they override what is set here.
    """
    settings: dict[str, Any] = {
        "http": TimedHeadProtocol,
        "ws": WebSocketProtocol or "auto",
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
    """Bind a socket before anything else starts, so that a port in use is reported at once.

    :param fall_back: take a free port where this one is in use.
    :raises Failure: when it cannot be bound.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Failure(f"{host} is not an address of this machine: {error}") from error
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if not (fall_back and error.errno == errno.EADDRINUSE):
                raise Failure(_bind_failure(host, port, error)) from error
            listener.bind((address[0], 0))
        listener.set_inheritable(True)
        listener.listen(2048)  # clients may come before the server runs
        yield listener


def _bind_failure(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; give another with --port (0 takes a free one)"
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user does not have; give one above 1023"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
