"""What is on its way to the backend: responses, and entries of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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


def _ignore(_: object) -> None:
    """Stand in for the callbacks until its writer sets them."""


@dataclass(slots=True, eq=False)
class PendingResponse:
    """One response on its way to the backend.

    :ivar template: its entries without their events and numbers.
    :ivar lock: guards `state`, and who waits for the receipt.
    :ivar writes: what its producer wrote since it was last looked at; any thread may append.
    :ivar mark_at: from when on (monotonic) a write is to mark it; None: it need not.
    :ivar alone: whether it is to be published alone, since a batch with it made the backend raise.
    :ivar after: single events of its channel that its end is to follow; `held`: it waits for one.
    :ivar on_cancel: called when a watcher cancels it, under the outbox's lock.
    :ivar on_outcome: called when it is done; with an error where writing must stop.
    """

    draft: Draft
    template: Entry
    lock: threading.RLock = field(  # a signal's handler, say, may write while it is held
        default_factory=threading.RLock
    )
    writes: list[tuple[object, str | None]] = field(default_factory=list[tuple[object, str | None]])
    state: State = "streaming"  # as its producer has it
    dirty: bool = False  # it is queued to be looked at
    mark_at: float | None = 0.0
    alone: bool = False
    after: tuple[PendingEvent, ...] = ()
    held: bool = False
    on_cancel: Callable[[CancelEvent], None] = _ignore
    on_outcome: Callable[[BackendError | None], None] = _ignore
    discarded: bool = False  # it goes nowhere: the sink could not take it
    done: bool = False  # it is with the backend, or given up
    started: bool = False  # the backend has taken the start
    damaged: bool = False  # what the backend has may have a hole: a snapshot is due
    lost: bool = False  # not even the snapshot was taken
    error: BackendError | None = None  # why writing had to stop
    inflight: int = 0
    seq: int = 0
    attempts: int = 0
    retries: int = 0
    recoveries: int = 0
    retry: Entry | None = None
    not_before: float = 0.0
    contact: float = field(default_factory=time.monotonic)
    cursor: str | None = None
    _settled: bool = False
    _waiters: tuple[concurrent.futures.Future[Receipt], ...] = ()

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


@dataclass(slots=True, eq=False)
class PendingEvent:
    """An entry without a response: a cancel, an input, a data event, a late tool result.

    :ivar behind: a response that has ended here, and that is to be with the backend first.
    """

    entry: Entry
    behind: PendingResponse | None = None
    future: concurrent.futures.Future[Outcome] = field(
        default_factory=concurrent.futures.Future[Outcome]
    )
    attempts: int = 0
    alone: bool = False
    dirty: bool = False
    mark_at: float | None = None


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
