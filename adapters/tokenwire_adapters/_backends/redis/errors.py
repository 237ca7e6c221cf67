"""Translates errors of redis-py and of the server into tokenwire's."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl

import redis.exceptions as redis_errors

from tokenwire.errors import BackendError, BackendMisconfigured, BackendUnavailable
from tokenwire_adapters._backends.redis.quirks import ERROR_CODES

__all__ = ["error_code", "is_stale", "translate"]

_REFUSED = {
    "WRONGPASS": "Redis refuses the user name or password: correct them in the URL",
    "NOAUTH": "Redis wants a password: put it in the URL (redis://user:password@host)",
    "NOPERM": "the Redis user lacks a permission: see docs/redis.md for the ACL rule it needs",
    "DENIED": "Redis is in protected mode: give it a password, or bind it to a private address",
    "WRONGTYPE": "a key with tokenwire's prefix holds another type: choose another prefix",
    "NEWERFORMAT": "a later version of tokenwire stored this channel: upgrade tokenwire",
    "CROSSSLOT": "this is a Redis Cluster: use redis+cluster://",
    "NOREPLICAS": "Redis has too few replicas in good health (min-replicas-to-write)",
}
_BUSY = {
    "LOADING": "Redis is loading its data",
    "BUSY": "Redis is busy running a script",
    "OOM": "Redis is out of memory (maxmemory): give it more, or keep less",
    "READONLY": "this Redis is a read-only replica",
    "MISCONF": "Redis cannot save to disk, and refuses writes until it can",
    "MASTERDOWN": "this replica has lost its master",
    "CLUSTERDOWN": "the Redis Cluster is down",
    "TRYAGAIN": "a slot of the Redis Cluster is moving",
    "ASK": "a slot of the Redis Cluster is moving",
    "MOVED": "a slot of the Redis Cluster has moved",
    "UNKILLABLE": "Redis is busy running a script",
    "NOSCRIPT": "Redis no longer has tokenwire's script",
}
_STALE = {"MOVED", "ASK", "CLUSTERDOWN", "READONLY", "MASTERDOWN"}


def error_code(error: BaseException | str) -> str:
    """The code that an error reply begins with, such as ``OOM``; empty where there is none."""
    if not isinstance(error, str):
        code = ERROR_CODES.get(type(error).__name__)
        if code == "WRONGPASS" and "required" in str(error).lower():
            return "NOAUTH"
        if code is not None:
            return code
    word = str(error).lstrip("-").partition(" ")[0].rstrip(":")
    if word == "ERR" and "max number of clients" in str(error):
        return "MAXCLIENTS"
    return word if word.isupper() else ""


def is_stale(error: BaseException | str) -> bool:
    """Whether an error says that the wrong server was asked: a replica, or another slot's node."""
    return error_code(error) in _STALE


def _reason(error: BaseException) -> str:
    """Why there is no connection, without what redis-py adds, such as the path of a socket."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            name = errno.errorcode.get(cause.errno)
            return os.strerror(cause.errno) if name else "the host name cannot be resolved"
        cause = cause.__cause__ or cause.__context__
    return str(error)[:200]


def translate(error: BaseException | str, where: str) -> BackendError:
    """Translate an error into tokenwire's, with advice.

    :param error: an exception of redis-py, or the text of an error that a script returned.
    :param where: which server, without secrets.
    """
    if isinstance(error, BackendError):
        return error
    code = error_code(error)
    if code in _REFUSED:
        return BackendMisconfigured(f"{_REFUSED[code]} ({where})")
    if code in _BUSY:
        return BackendUnavailable(f"{_BUSY[code]} ({where})")
    if isinstance(error, str):
        return BackendUnavailable(f"Redis answers {error[:200]!r} ({where})")
    text = str(error)
    if code == "MAXCLIENTS" or "max number of clients" in text:
        return BackendUnavailable(f"Redis takes no more clients (maxclients) ({where})")
    cause = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError) or "SSL" in text:
        return BackendMisconfigured(
            f"TLS with Redis failed ({where}): check the certificates and the port: {text[:200]}"
        )
    if isinstance(error, redis_errors.TimeoutError | asyncio.TimeoutError | TimeoutError):
        return BackendUnavailable(f"Redis does not answer in time ({where})")
    if "DB index is out of range" in text or text == "Invalid Database":
        return BackendMisconfigured(
            f"Redis has no database of the number in the URL ({where}): they count from 0, and"
            " there are 16 by default"
        )
    if isinstance(error, redis_errors.ConnectionError | OSError | asyncio.IncompleteReadError):
        return BackendUnavailable(f"no connection to Redis ({where}): {_reason(error)}")
    if isinstance(error, redis_errors.ResponseError) and "unknown command" in text.lower():
        return BackendMisconfigured(f"this Redis is too old, or lacks a command: {text[:200]}")
    return BackendUnavailable(f"Redis: {type(error).__name__}: {text[:200]} ({where})")
