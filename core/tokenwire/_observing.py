"""Who wants to know how responses ended: the sink's own counters, and observers."""

from __future__ import annotations

import contextvars
import logging
import threading
import weakref
from collections.abc import Callable

from tokenwire._clock import now_ms
from tokenwire._results import EndStats, ResponseSummary
from tokenwire._writing.pending import PendingResponse
from tokenwire.writer import ResponseWriter

__all__ = ["Observer", "ResponseObservers"]

logger = logging.getLogger("tokenwire")

Observer = Callable[[ResponseSummary], object]


class ResponseObservers:
    """Counts responses that have ended, and calls observers. Thread-safe.

    :ivar ends: the counters.
    """

    def __init__(self) -> None:
        self.ends = EndStats()
        self._observers: tuple[Observer, ...] = ()
        self._contexts: weakref.WeakKeyDictionary[ResponseWriter, contextvars.Context] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """Start with a fresh lock in a forked child."""
        self._lock = threading.Lock()

    def add(self, observer: Observer) -> Callable[[], None]:
        """Call `observer` for each response that has ended (see `Sink.add_response_observer`)."""
        with self._lock:
            self._observers = (*self._observers, observer)

        def remove() -> None:
            with self._lock:
                kept = list(self._observers)
                if observer in kept:
                    kept.remove(observer)
                    self._observers = tuple(kept)

        return remove

    def began(self, writer: ResponseWriter) -> None:
        """Keep the context in which a response began, for its observers."""
        if self._observers:
            self._contexts[writer] = contextvars.copy_context()

    def ended(self, writer: ResponseWriter, pending: PendingResponse) -> None:
        """Count a response, and call the observers in the context in which it began."""
        summary = _summary(writer, pending)
        with self._lock:
            self.ends.add(summary)
        context = self._contexts.pop(writer, None) if self._observers else None
        for observer in self._observers:
            try:
                if context is not None:
                    context.run(observer, summary)
                else:
                    observer(summary)
            except Exception:
                logger.warning("tokenwire: an observer of responses failed", exc_info=True)


def _summary(writer: ResponseWriter, pending: PendingResponse) -> ResponseSummary:
    draft, now = pending.draft, now_ms()
    end = draft.end
    ended_at = (end.ts if end is not None else None) or now
    first_token_at = draft.first_token_at
    if first_token_at is not None:  # its text may be taken for publishing after it has ended
        first_token_at = min(first_token_at, ended_at)
    return ResponseSummary(
        id=writer.id,
        channel=writer.channel,
        run=writer.run,
        metadata=draft.start.metadata,
        state=writer.state,
        status=pending.receipt.status,
        tokens=draft.tokens,
        started_at=draft.start.ts or now,
        first_token_at=first_token_at,
        ended_at=ended_at,
        finish_reason=end.finish_reason if end is not None else None,
        usage=end.usage if end is not None else None,
        error=end.error if end is not None else None,
    )
