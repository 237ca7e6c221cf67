"""How a response ends: by its producer, by a watcher's cancel, or where the backend refuses it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tokenwire._clock import now_ms
from tokenwire._problems import Problems
from tokenwire._redact import describe
from tokenwire._values import Arguments
from tokenwire._writing.outbox import Outbox
from tokenwire._writing.pending import PendingResponse
from tokenwire.errors import BackendError, ResponseCancelled, ResponseClosed
from tokenwire.events import CancelEvent, EndEvent, State

__all__ = ["Ending"]

logger = logging.getLogger("tokenwire")

Callback = Callable[[], object]


@dataclass(slots=True, eq=False)
class Ending:
    """Ends a response, once, and has whoever is to know called. Thread-safe.

    :ivar on_settled: called when the ended response is with the backend, or given up.
    :ivar late_writes: how often something was written after the end.
    """

    pending: PendingResponse
    outbox: Outbox
    problems: Problems
    on_settled: Callable[[PendingResponse], None]
    raise_on_cancel: bool  # a write after a watcher's cancel raises
    cancel: CancelEvent | None = None  # of the watcher who ended it
    late_writes: int = 0
    callbacks: list[Callback] | None = field(default_factory=list[Callback])  # None: called

    def __post_init__(self) -> None:
        self.pending.on_cancel = self._cancelled
        self.pending.on_outcome = self._done

    def end(
        self,
        state: State,
        *,
        error: BaseException | str | None = None,
        finish_reason: str | None = None,
        usage: Any = None,
        cancel: CancelEvent | None = None,
    ) -> bool:
        """End the response; False where it has ended."""
        args = Arguments()
        pending = self.pending
        event = EndEvent(
            response_id=pending.draft.start.response_id,
            state=state,
            finish_reason=args.text("finish_reason", finish_reason),
            usage=args.mapping("usage", usage),
            error=describe(error),
            ts=now_ms(),
        )
        with pending.lock:
            if pending.state != "streaming":
                return False
            # None of these is behind it yet.
            pending.after = self.outbox.events_of(pending.template.channel)
            pending.state = state
            self.cancel = cancel
        pending.writes.append((event, None))
        if pending.discarded:
            self._settle()
        else:
            self.outbox.mark(pending, True)
            self.outbox.flush()
        self.problems.check(args)  # last: the response ends, whatever its arguments are
        return True

    def refuse(self) -> None:
        """Refuse what is written after the end.

        :raises ResponseCancelled: with `raise_on_cancel`, after a watcher's cancel.
        :raises ResponseClosed: in strict mode, after another end.
        """
        self.late_writes += 1
        pending = self.pending
        response_id = pending.draft.start.response_id
        if self.cancel is None:
            if not pending.discarded:
                ended = ResponseClosed(f"response {response_id!r} has ended")
                self.problems.report(pending.error or ended)
        elif self.raise_on_cancel:
            raise ResponseCancelled(response_id, self.cancel.reason)

    # -- what others have it end by

    def _cancelled(self, cancel: CancelEvent) -> None:
        """Freeze the text, end the response, and have the callbacks called."""
        if self.end("cancelled", error=cancel.reason, finish_reason="cancelled", cancel=cancel):
            with self.pending.lock:
                callbacks, self.callbacks = self.callbacks, None
            for callback in callbacks or ():
                self.outbox.call_soon(_call, callback)  # not here: the caller holds locks

    def _done(self, error: BackendError | None) -> None:
        """The response is with the backend, or (with `error`) writing must stop."""
        pending = self.pending
        if error is not None:
            with pending.lock:
                pending.error = error
                if pending.state == "streaming":
                    pending.state = "abandoned"
        self._settle()
        if error is not None:
            self.problems.report(error)

    def _settle(self) -> None:
        self.on_settled(self.pending)
        self.pending.settle()

    def add_callback(self, callback: Callback) -> Callable[[], None]:
        """Have `callback` called when a watcher cancels, or call it now where one has.

        :return: a function that removes it.
        """
        with self.pending.lock:
            callbacks = self.callbacks
            if callbacks is not None:
                callbacks.append(callback)
        if callbacks is None:
            _call(callback)

        def remove() -> None:
            with self.pending.lock, suppress(ValueError):
                (self.callbacks or []).remove(callback)

        return remove


def _call(callback: Callback) -> None:
    try:
        callback()
    except Exception:
        logger.exception("tokenwire: a cancel callback failed")
