"""Claims: one model call that several layers see is written by exactly one of them.

A framework's callback and the provider SDK under it both see each token. The upper layer opens a
`Claim` for the call; the lowest layer that reads the tokens takes it and writes them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeAlias

from tokenwire._options import OnCancel

__all__ = [
    "Claim",
    "ClaimFinder",
    "add_claim_finder",
    "begin_recording",
    "claiming",
    "covering_claim",
    "current_claim",
    "end_recording",
    "recorded_above",
    "recording_above",
    "set_claim",
]

_claim: ContextVar[Claim | None] = ContextVar("tokenwire_claim", default=None)
_recorded: ContextVar[int] = ContextVar("tokenwire_recorded", default=0)  # by how many layers


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
    :ivar suppressed: the upper layer shows the call itself, or not at all: those below, who find
        the claim taken, write nothing.
    :ivar on_cancel: ``"raise"``: once a watcher cancels, whoever takes the claim raises
        `ResponseCancelled`, which the upper layer needs to end its loop.
    :ivar instrument: an SDK below that is recorded for claimed calls alone records this one.
    :ivar framework: the framework that opened it, by a name of its adapter's choice; else "".
    """

    __slots__ = (
        "_lock",
        "channel",
        "closed",
        "framework",
        "instrument",
        "metadata",
        "on_cancel",
        "owner",
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
        on_cancel: OnCancel = "end",
        instrument: bool = True,
        framework: str = "",
    ) -> None:
        self.channel = channel
        self.sink = sink
        self.on_cancel: OnCancel = on_cancel
        self.instrument = instrument
        self.framework = framework
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
        """Take the claim, and have the layers below write nothing."""
        self.suppressed = self.take(owner)
        return self.suppressed

    def close(self) -> None:
        """Mark the call as over."""
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
    """Cover the calls made in this block with `claim`. Leaving it never raises."""
    token = _claim.set(claim)
    try:
        yield claim
    finally:
        # A generator may be closed in another context than the one in which it entered the block.
        with suppress(ValueError):
            _claim.reset(token)


def begin_recording() -> None:
    """Say that the caller records the requests sent from here to `end_recording`, in this context.

    Layers below, such as an HTTP client's, do not record them then. Calls may be nested.
    """
    _recorded.set(_recorded.get() + 1)


def end_recording() -> None:
    """Undo one `begin_recording`."""
    _recorded.set(max(0, _recorded.get() - 1))


@contextmanager
def recording_above() -> Generator[None]:
    """Call `begin_recording` and `end_recording` around a block."""
    begin_recording()
    try:
        yield
    finally:
        end_recording()


def recorded_above() -> bool:
    """Whether a layer above records the request that is being sent here."""
    return _recorded.get() > 0


ClaimFinder: TypeAlias = Callable[[], Claim | None]
"""Finds the claim of the framework's call on whose behalf the caller runs. Never raises.

Needed where the context does not tell: a framework whose generators send the request when they are
read may read them in another context, or after other calls have begun in the same one.
"""

_finders: list[ClaimFinder] = []


def add_claim_finder(finder: ClaimFinder) -> None:
    """Ask `finder`, too, which claim covers a call; idempotent."""
    if finder not in _finders:
        _finders.append(finder)


def covering_claim() -> Claim | None:
    """The claim that covers a call made here and now; None where there is none.

    A finder knows better than the context, unless its claim was taken and the context's was not:
    then the context's is of a further call, made by the same generator.
    """
    here = current_claim()
    for finder in _finders:
        claim = finder()
        if claim is not None and not claim.closed:
            return here if claim.taken and here is not None and not here.taken else claim
    return here
