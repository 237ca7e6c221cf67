"""From the errors of redis-py and of the server to ours, in one place."""

from __future__ import annotations

import asyncio
import ssl

import redis.exceptions as theirs

from tokenwire.errors import BackendError, BackendMisconfigured, BackendUnavailable

__all__ = ["is_stale", "said", "translate"]

_REFUSED = {
    "WRONGPASS": "Redis refuses the user name or password: correct them in the URL",
    "NOAUTH": "Redis wants a password: put it in the URL (redis://user:password@host)",
    "NOPERM": "the Redis user lacks a right: see docs/redis.md for the ACL rule it needs",
    "DENIED": "Redis is in protected mode: give it a password, or bind it to a private address",
    "WRONGTYPE": "a Redis key of ours holds something else: choose another prefix",
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
    "NOSCRIPT": "Redis has forgotten our script",
}
_STALE = {"MOVED", "ASK", "CLUSTERDOWN", "READONLY", "MASTERDOWN"}
_CLASSES = {
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


def said(error: BaseException | str) -> str:
    """The word an error reply begins with, such as ``OOM``; versions of redis-py hide it."""
    if not isinstance(error, str):
        known = _CLASSES.get(type(error).__name__)
        if known == "WRONGPASS" and "required" in str(error).lower():
            return "NOAUTH"
        if known is not None:
            return known
    word = str(error).lstrip("-").partition(" ")[0].rstrip(":")
    if word == "ERR" and "max number of clients" in str(error):
        return "MAXCLIENTS"
    return word if word.isupper() else ""


def is_stale(error: BaseException | str) -> bool:
    """Whether an error says that we talk to the wrong server."""
    return said(error) in _STALE


def translate(error: BaseException | str, where: str) -> BackendError:
    """Say in our words what went wrong.

    :param error: an exception of redis-py, or an error that a script reported.
    :param where: which server, without secrets.
    """
    if isinstance(error, BackendError):
        return error
    word = said(error)
    if word in _REFUSED:
        return BackendMisconfigured(f"{_REFUSED[word]} ({where})")
    if word in _BUSY:
        return BackendUnavailable(f"{_BUSY[word]} ({where})")
    if isinstance(error, str):
        return BackendUnavailable(f"Redis answers {error[:200]!r} ({where})")
    text = str(error)
    if word == "MAXCLIENTS" or "max number of clients" in text:
        return BackendUnavailable(f"Redis has as many clients as it may (maxclients) ({where})")
    cause = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError) or "SSL" in text:
        return BackendMisconfigured(
            f"TLS with Redis failed ({where}): check the certificates and the port: {text[:200]}"
        )
    if isinstance(error, theirs.TimeoutError | asyncio.TimeoutError | TimeoutError):
        return BackendUnavailable(f"Redis does not answer in time ({where})")
    if isinstance(error, theirs.ConnectionError | OSError | asyncio.IncompleteReadError):
        return BackendUnavailable(f"no connection to Redis ({where}): {text[:200]}")
    if isinstance(error, theirs.ResponseError) and "unknown command" in text.lower():
        return BackendMisconfigured(f"this Redis is too old, or lacks a command: {text[:200]}")
    return BackendUnavailable(f"Redis: {type(error).__name__}: {text[:200]} ({where})")
