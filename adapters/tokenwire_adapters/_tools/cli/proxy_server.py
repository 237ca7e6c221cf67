"""Runs the proxy under uvicorn: alone, or on a thread beside a program that uses it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator
from socket import socket
from typing import Any

import uvicorn

from tokenwire_adapters._tools.cli import server

__all__ = ["config", "serving"]

_BROKE_OFF = "ASGI callable returned without completing response."


class _ExpectedErrors(logging.Filter):
    """Drops what uvicorn logs about a reply that broke off: so did the upstream's."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg != _BROKE_OFF


def config(app: Any, **options: Any) -> uvicorn.Config:
    """Settings of uvicorn: it adds nothing to replies, and logs no query, which may hold a key.

    :param options: what `server.config` takes.
    """
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(known, _ExpectedErrors) for known in logger.filters):
        logger.addFilter(_ExpectedErrors())
    settings: dict[str, Any] = {
        "access_log": False,
        "date_header": False,
        "h11_max_incomplete_event_size": 128 * 1024,  # the proxy itself refuses large headers
        "ws_max_size": 16 * 2**20,
        "timeout_graceful_shutdown": 1,
        **options,
    }
    return server.config(app, **settings)


@contextlib.contextmanager
def serving(app: Any, listener: socket) -> Generator[None]:
    """Serve an app on a thread, on a socket that listens already, while the block runs."""
    uvicorn_server = uvicorn.Server(config(app, log_level="critical", log_config=None))
    thread = threading.Thread(
        target=uvicorn_server.run,
        kwargs={"sockets": [listener]},
        name="tokenwire-proxy",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        uvicorn_server.should_exit = True
        thread.join(10)
