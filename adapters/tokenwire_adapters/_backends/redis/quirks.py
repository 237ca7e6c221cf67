"""Workarounds for redis-py (checked with 8.1.0); each says which of its files it depends on."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool

__all__ = [
    "ERROR_CODES",
    "accepted_arguments",
    "close_now",
    "connection_arguments",
    "no_client_info",
]

# redis-py strips the code off an error reply that it has a class for
# (redis/_parsers/base.py, `BaseParser.EXCEPTION_CLASSES`).
ERROR_CODES = {
    "AuthenticationError": "WRONGPASS",
    "NoPermissionError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "MovedError": "MOVED",
    "AskError": "ASK",
    "TryAgainError": "TRYAGAIN",
    "ClusterDownError": "CLUSTERDOWN",
    "ClusterCrossSlotError": "CROSSSLOT",
    "MasterDownError": "MASTERDOWN",
    "NoScriptError": "NOSCRIPT",
}


async def close_now(connection: Any) -> None:
    """Close a connection, whatever state it is in, without waiting for the server.

    `disconnect(nowait=True)` only begins to close the stream: with TLS, the transport then waits
    for the server's close_notify. To abort it, we need the private `_writer`
    (redis/asyncio/connection.py, `AbstractConnection.disconnect`).
    """
    writer = getattr(connection, "_writer", None)
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)
    if writer is not None:
        writer.transport.abort()
        await asyncio.sleep(0)


def no_client_info() -> dict[str, None]:
    """Arguments that stop redis-py from sending CLIENT SETINFO: a round trip, and a permission.

    8.1 takes `driver_info`, earlier releases `lib_name` and `lib_version`
    (redis/asyncio/connection.py, `AbstractConnection.__init__`).
    """
    if "driver_info" in _parameters(AbstractConnection):
        return {"driver_info": None}
    return {"lib_name": None, "lib_version": None}


def connection_arguments(
    pool_arguments: Mapping[str, Any], connection_class: type[Any]
) -> dict[str, Any]:
    """The arguments of a client's pool that a connection of our own takes as well.

    A pool adds arguments that tie a connection to it: `event_dispatcher`, `himport_registry` and,
    for maintenance notifications, ``maint…`` and ``orig_…`` (redis/asyncio/connection.py,
    `ConnectionPool.__init__`).
    """
    accepted = _parameters(connection_class)
    excluded = ("event_dispatcher", "himport_registry", "parser_class")
    client_info = ("driver_info", "lib_name", "lib_version")
    return {
        name: value
        for name, value in pool_arguments.items()
        if (name in accepted or name.startswith("sentinel_"))
        and "maint" not in name
        and not name.startswith("orig_")
        and name not in excluded
        and name not in client_info
    }


def accepted_arguments(classes: Iterable[type[Any]]) -> set[str]:
    """The arguments that connections of these classes take between them, and those of a pool."""
    pool = _parameters(ConnectionPool) | _parameters(AbstractConnection)
    return pool.union(*map(_parameters, classes)) | {
        "sentinel_username",
        "sentinel_password",
        "timeout",
    }


def _parameters(some_class: Any) -> set[str]:
    """The parameters of a class's constructor, in all its bases.

    Those that have none of their own are passed over: `inspect` would parse the signature of
    `object`'s, and CPython 3.11 cannot parse in several threads at a time
    (https://github.com/python/cpython/issues/106905).
    """
    return {
        name
        for base in some_class.__mro__
        if inspect.isfunction(base.__init__)
        for name in inspect.signature(base.__init__).parameters
    }
