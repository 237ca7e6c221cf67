"""Opening sinks: from a URL, and the one that code gets which names none."""

from __future__ import annotations

import os
import threading
from typing import Any

from tokenwire.backend import Backend, Granularity
from tokenwire.context import DEFAULT_CHANNEL
from tokenwire.registry import open_backend
from tokenwire.sink import Sink

__all__ = ["default_sink", "is_default_sink", "open_sink"]


def open_sink(
    url: str | Backend | None = None,
    *,
    rollup: float = 0,
    lease: float = 15.0,
    granularity: Granularity | None = None,
    strict: bool | None = None,
    close_timeout: float = 5.0,
    default_channel: str | None = DEFAULT_CHANNEL,
    ring_events: int = 2048,
    ring_bytes: int = 2**20,
    **options: Any,
) -> Sink:
    """Open a sink.

    :param url: ``memory://``, ``redis://…``, ``ably://…`` or any scheme that an installed package
        adds, or a ready backend. By default ``$TOKENWIRE_URL``, else ``memory://``.
    :param rollup: the window in which tokens merge into one publish, in seconds (0 to 0.5).
        Tokens that come while a publish is under way always merge.
    :param lease: seconds without a sign of life after which a response counts as abandoned.
    :param granularity: ``"response"`` (history keeps one item a response) or ``"token"``.
    :param strict: raise problems into the caller, for tests; by default ``$TOKENWIRE_STRICT``.
    :param close_timeout: seconds that `Sink.close`, and the interpreter's exit, wait for delivery.
    :param default_channel: the channel of calls for which nothing names one. Everybody's text meets
        there, so an application that serves several people gives None (or sets
        ``$TOKENWIRE_REQUIRE_CHANNEL``): such a call is then reported, or raised in strict mode, and
        is not published.
    :param ring_events: how many recent events a watched channel keeps at hand in this process; a
        watcher that falls further behind is given a summary. `ring_bytes` bounds their size.
    :param options: for the backend.
    :raises UnknownScheme: when no installed package handles the URL.
    :raises MissingExtra: when the backend's own dependency is missing; the message names it.
    :raises ValueError: when the rest of the URL or an argument is wrong.
    """
    if strict is None:
        strict = _is_set("TOKENWIRE_STRICT")
    if default_channel == DEFAULT_CHANNEL and _is_set("TOKENWIRE_REQUIRE_CHANNEL"):
        default_channel = None
    if granularity not in (None, "response", "token"):
        raise ValueError(f"granularity must be 'response' or 'token', not {granularity!r}")
    if isinstance(url, Backend):
        if options:
            raise TypeError(f"a ready backend takes no options: {', '.join(options)}")
        if granularity is not None and granularity != url.granularity:
            raise ValueError(f"the backend's granularity is {url.granularity!r}")
        backend = url
    else:
        if granularity is not None:
            options["granularity"] = granularity
        backend = open_backend(url or os.environ.get("TOKENWIRE_URL") or "memory://", **options)
    return Sink(
        backend,
        rollup=rollup,
        lease=lease,
        strict=strict,
        close_timeout=close_timeout,
        default_channel=default_channel,
        ring_events=ring_events,
        ring_bytes=ring_bytes,
    )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0", "false")


_default: Sink | None = None
_default_lock = threading.Lock()


def default_sink() -> Sink:
    """The sink of this process for code that names none, opened from ``$TOKENWIRE_URL``.

    :raises UnknownScheme, MissingExtra, ValueError: as `open_sink` does.
    """
    global _default
    with _default_lock:
        if _default is None or _default.closed:
            _default = open_sink()
        return _default


def is_default_sink(sink: Sink | None) -> bool:
    """Whether `sink` is the process's own, or None, which stands for it. Opens nothing."""
    return sink is None or sink is _default


def _after_fork_in_child() -> None:
    global _default_lock
    _default_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
