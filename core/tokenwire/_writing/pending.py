"""What is on its way to the backend: responses, and entries of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from tokenwire._clock import now_ms
from tokenwire._redact import redacted
from tokenwire._results import Receipt
from tokenwire._values import Arguments
from tokenwire._writing.draft import Draft
from tokenwire.backend import Entry, Outcome
from tokenwire.errors import BackendError
from tokenwire.events import CancelEvent, State, ToolResultEvent

__all__ = ["PendingEvent", "PendingResponse", "tool_result_event"]


class PendingResponse:
    """One response on its way to the backend.

    :ivar writes: what its producer wrote since it was last looked at; any thread may append.
    :ivar state: the state of the response, as its producer has it.
    :ivar lock: guards it, and who waits for the receipt.
    :ivar dirty: whether it is queued to be looked at.
    :ivar alone: whether it is to be published alone, since a batch with it made the backend raise.
    :ivar mark_at: from when on (monotonic) a write is to mark it; None: it need not.
    :ivar after: single events of its channel that its end is to follow; `held`: it waits for one.
    :ivar on_cancel: called when a watcher cancels it, under the outbox's lock.
    :ivar on_outcome: called when it is done; with an error where writing must stop.
    """

    __slots__ = (
        "_settled",
        "_waiters",
        "after",
        "alone",
        "attempts",
        "contact",
        "cursor",
        "damaged",
        "dirty",
        "discarded",
        "done",
        "draft",
        "error",
        "held",
        "inflight",
        "lock",
        "lost",
        "mark_at",
        "not_before",
        "on_cancel",
        "on_outcome",
        "recoveries",
        "retries",
        "retry",
        "seq",
        "started",
        "state",
        "template",
        "writes",
    )

    def __init__(self, draft: Draft, entry: Entry) -> None:
        self.draft = draft
        self.template = entry
        self.lock = threading.RLock()  # a signal's handler, say, may write while it is held
        self.writes: list[tuple[object, str | None]] = []
        self.state: State = "streaming"
        self.dirty = False
        self.alone = False
        self.after: tuple[PendingEvent, ...] = ()
        self.held = False
        self.mark_at: float | None = 0.0
        self.on_cancel: Callable[[CancelEvent], None] = _ignore
        self.on_outcome: Callable[[BackendError | None], None] = _ignore
        self.discarded = False  # it goes nowhere: the sink could not take it
        self.done = False  # it is with the backend, or given up
        self.started = False  # the backend has taken the start
        self.damaged = False  # what the backend has may have a hole: a snapshot is due
        self.lost = False  # not even the snapshot was taken
        self.error: BackendError | None = None  # why writing had to stop
        self.inflight = 0
        self.seq = 0
        self.attempts = 0
        self.retries = 0
        self.recoveries = 0
        self.retry: Entry | None = None
        self.not_before = 0.0
        self.contact = time.monotonic()
        self.cursor: str | None = None
        self._settled = False
        self._waiters: tuple[concurrent.futures.Future[Receipt], ...] = ()

    def discard(self, error: Exception | None = None) -> None:
        """Deliver nothing: the sink cannot take this response (bad name, closed, forked)."""
        self.discarded = True
        self.done = True
        if isinstance(error, BackendError):
            self.error = error

    @property
    def receipt(self) -> Receipt:
        """How far its delivery has come."""
        status: Literal["pending", "delivered", "recovered", "lost", "refused"]
        if self.lost:
            status = "lost"
        elif self.error is not None:
            status = "refused"
        elif not self.done:
            status = "pending"
        else:
            status = "recovered" if self.recoveries else "delivered"
        return Receipt(
            status=status,
            cursor=self.cursor,
            retries=self.retries,
            recoveries=self.recoveries,
            error=None if self.error is None else str(self.error),
        )

    def settled(self) -> concurrent.futures.Future[Receipt]:
        """The receipt, once the ended response is with the backend, or given up."""
        future: concurrent.futures.Future[Receipt] = concurrent.futures.Future()
        with self.lock:
            settled = self._settled
            if not settled:
                self._waiters = (*self._waiters, future)
        if settled:
            future.set_result(self.receipt)
        return future

    def wait(self, timeout: float | None) -> Receipt:
        """The receipt, once it is settled, or so many seconds have passed. Blocks."""
        try:
            return self.settled().result(timeout)
        except concurrent.futures.TimeoutError:
            return self.receipt

    async def wait_async(self, timeout: float | None) -> Receipt:
        """Do what `wait` does, without blocking the loop."""
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.wrap_future(self.settled())
        except TimeoutError:
            return self.receipt

    def settle(self) -> None:
        """Hand the receipt to all who wait for it."""
        with self.lock:
            self._settled = True
            waiters, self._waiters = self._waiters, ()
        for future in waiters:
            if future.set_running_or_notify_cancel():
                future.set_result(self.receipt)


class PendingEvent:
    """An entry without a response: a cancel, an input, a data event, a late tool result.

    :ivar behind: a response that has ended here, and that is to be with the backend first.
    """

    __slots__ = ("alone", "attempts", "behind", "dirty", "entry", "future", "mark_at")

    def __init__(self, entry: Entry, behind: PendingResponse | None = None) -> None:
        self.entry = entry
        self.behind = behind
        self.future: concurrent.futures.Future[Outcome] = concurrent.futures.Future()
        self.attempts = 0
        self.alone = False
        self.dirty = False
        self.mark_at: float | None = None


def _ignore(_: object) -> None:
    """Stand in for the callbacks until its writer sets them."""


def tool_result_event(
    args: Arguments,
    call_id: str,
    output: Any,
    *,
    response_id: str | None,
    run: str | None,
    name: str | None,
    error: str | None,
) -> ToolResultEvent:
    """The event for the result of a tool call, from whatever the caller has.

    :param args: makes the arguments plain; `response_id` and `run` are so already.
    """
    return ToolResultEvent(
        call_id=args.text("call_id", call_id) or "",
        response_id=response_id,
        run=run,
        name=args.text("name", name),
        output=args.value("output", output),
        error=redacted(error),
        ts=now_ms(),
    )
