"""Ambient channel and run, as context variables, for code that names none.

Context variables follow tasks, and threads that are started with a copied context.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tokenwire._ids import check_name
from tokenwire.claims import Claim, claiming, current_claim, set_claim
from tokenwire.errors import InvalidName

__all__ = [
    "Claim",
    "channel",
    "claiming",
    "current_channel",
    "current_claim",
    "current_run",
    "resolve_channel",
    "run",
    "set_claim",
]

logger = logging.getLogger("tokenwire")

_channel: ContextVar[str | None] = ContextVar("tokenwire_channel", default=None)
_run: ContextVar[str | None] = ContextVar("tokenwire_run", default=None)
_warned = False


@contextmanager
def channel(name: str, *, run: str | None = None) -> Generator[str]:
    """Make `name` the channel of code in this block that names none.

    :param run: makes this the current run, too.
    :raises InvalidName: when either cannot be a name.
    """
    token = _channel.set(check_name(name, "channel"))
    run_token = None if run is None else _run.set(check_name(run, "run"))
    try:
        yield name
    finally:
        _channel.reset(token)
        if run_token is not None:
            _run.reset(run_token)


@contextmanager
def run(run_id: str) -> Generator[str]:
    """Let the responses begun in this block share one run.

    :raises InvalidName: when `run_id` cannot be an id.
    """
    token = _run.set(check_name(run_id, "run"))
    try:
        yield run_id
    finally:
        _run.reset(token)


def current_channel() -> str | None:
    """The channel of this context, if one was set."""
    return _channel.get()


def current_run() -> str | None:
    """The run of this context, if one was set."""
    return _run.get()


def resolve_channel(
    explicit: str | Callable[[], str | None] | None = None, *, session: str | None = None
) -> str:
    """Find the channel for a response. Never raises.

    In this order: `explicit` (a name, or a function that gives one or None), the context's
    channel, the framework's own `session`, ``$TOKENWIRE_CHANNEL``, ``"default"`` (with one
    warning for the process). A name that cannot be one is passed over with a warning.
    """
    global _warned
    for candidate in _candidates(explicit, session):
        try:
            return check_name(candidate, "channel")
        except InvalidName as error:
            logger.warning("tokenwire: %s; trying the next source of a channel name", error)
    if not _warned:
        _warned = True
        logger.warning(
            "tokenwire: no channel named; using 'default'. Name one with channel=,"
            " tokenwire.channel(...) or $TOKENWIRE_CHANNEL"
        )
    return "default"


def _candidates(
    explicit: str | Callable[[], str | None] | None, session: str | None
) -> Iterator[Any]:
    if callable(explicit):
        try:
            explicit = explicit()
        except Exception:
            logger.warning("tokenwire: the channel function failed", exc_info=True)
            explicit = None
    for candidate in (explicit, _channel.get(), session, os.environ.get("TOKENWIRE_CHANNEL")):
        if candidate is not None and candidate != "":
            yield candidate
