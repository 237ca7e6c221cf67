"""What code that names nothing still knows: the current channel and run, and who reads a call.

These are context variables, so they follow tasks and threads started with a copied context.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tokenwire._ids import check_name
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
_claim: ContextVar[Claim | None] = ContextVar("tokenwire_claim", default=None)
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


class Claim:
    """One model call that several layers may see: a framework's callback, and the SDK under it.

    The upper layer opens the claim for the call and fills in what it knows. The lowest layer that
    reads the tokens takes it, and writes them with what the claim says; the upper layer then
    writes none of them.

    :ivar channel: where the response goes; `run`, `response_id`, `metadata` likewise.
    :ivar sink: the `Sink` of the upper layer, where it was given one; whoever takes the claim and
        was given none of its own writes there.
    :ivar owner: who took it; None while nobody has.
    :ivar writer: the `ResponseWriter` of whoever took it, so that the layers above can add to it.
    :ivar closed: the call is over; the claim covers nothing any more.
    :ivar reserved: the upper layer shows the call itself, or not at all: those below, who find the
        claim taken, keep quiet.
    :ivar raise_on_cancel: the upper layer needs `ResponseCancelled` to end its loop, once a
        watcher cancels; whoever takes the claim raises it.
    """

    __slots__ = (
        "_lock",
        "channel",
        "closed",
        "metadata",
        "owner",
        "raise_on_cancel",
        "response_id",
        "run",
        "sink",
        "suppressed",
        "writer",
    )

    def __init__(
        self,
        *,
        channel: str | None = None,
        run: str | None = None,
        response_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        sink: Any = None,
        raise_on_cancel: bool = False,
    ) -> None:
        self.channel = channel
        self.sink = sink
        self.raise_on_cancel = raise_on_cancel
        self.suppressed = False
        self.run = run
        self.response_id = response_id
        self.metadata = metadata or {}
        self.owner: object | None = None
        self.writer: Any = None
        self.closed = False
        self._lock = threading.Lock()

    @property
    def taken(self) -> bool:
        """Whether somebody took it."""
        return self.owner is not None

    def take(self, owner: object) -> bool:
        """Take the claim for `owner`; False when somebody else has it, or the call is over."""
        with self._lock:
            if self.owner is None and not self.closed:
                self.owner = owner
            return self.owner is owner

    def suppress(self, owner: object) -> bool:
        """Take the claim, and have the layers below keep quiet."""
        self.suppressed = self.take(owner)
        return self.suppressed

    def close(self) -> None:
        """Say that the call is over."""
        self.closed = True


def current_claim() -> Claim | None:
    """The claim that covers this context, if there is one and its call is not over."""
    claim = _claim.get()
    return None if claim is None or claim.closed else claim


def set_claim(claim: Claim | None) -> None:
    """Cover the rest of this context (for hooks that have a begin and an end, but no block)."""
    _claim.set(claim)


@contextmanager
def claiming(claim: Claim) -> Generator[Claim]:
    """Cover the calls made in this block with `claim`."""
    token = _claim.set(claim)
    try:
        yield claim
    finally:
        _claim.reset(token)
