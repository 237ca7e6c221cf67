"""What is on its way to the backend: responses, and entries of their own."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from tokenwire._writing.draft import Draft
from tokenwire.backend import Entry, Outcome
from tokenwire.errors import BackendError
from tokenwire.events import CancelEvent, Event

__all__ = ["OutboxStats", "Owner", "PendingEvent", "PendingResponse"]


class OutboxStats(msgspec.Struct):
    """Counters of the writing side of a sink."""

    responses: int = 0
    tokens: int = 0
    publishes: int = 0
    entries: int = 0
    events: int = 0
    retries: int = 0
    recoveries: int = 0
    lost: int = 0
    fenced: int = 0
    publish_seconds: float = 0.0


class Owner(Protocol):
    """The writer that a slot belongs to, as the outbox sees it."""

    def absorb(self, draft: Draft) -> None:
        """Move what was written into `draft`."""
        ...

    def on_cancel_event(self, cancel: CancelEvent) -> None:
        """Learn that a watcher cancelled the response."""
        ...

    def on_outcome(self, slot: PendingResponse, error: BackendError | None) -> None:
        """Learn that an entry was taken, or (with `error`) that writing must stop."""
        ...


class PendingResponse:
    """One response on its way to the backend."""

    def __init__(self, owner: Owner, draft: Draft, entry: Entry) -> None:
        self.owner = owner
        self.draft = draft
        self.template = entry
        self.dirty = False
        self.done = False
        self.started = False  # the backend has taken the start
        self.damaged = False  # what the backend has may have a hole: a snapshot is due
        self.lost = False  # not even the snapshot was taken
        self.fenced = False
        self.inflight = 0
        self.seq = 0
        self.attempts = 0
        self.retries = 0
        self.recoveries = 0
        self.retry: Entry | None = None
        self.not_before = 0.0
        self.contact = time.monotonic()
        self.cursor: str | None = None

    def entry(self, events: Sequence[Event]) -> Entry:
        template = self.template
        made = Entry(
            channel=template.channel,
            events=tuple(events),
            response_id=template.response_id,
            fence=template.fence,
            seq=self.seq,
            lease=template.lease,
        )
        self.seq += 1
        return made


class PendingEvent:
    """An entry without a response: a cancel, an input, a data event, a late tool result.

    :ivar behind: a response that has ended here, and that is to be with the backend first.
    """

    def __init__(self, entry: Entry, behind: PendingResponse | None = None) -> None:
        self.entry = entry
        self.behind = behind
        self.future: concurrent.futures.Future[Outcome] = concurrent.futures.Future()
        self.attempts = 0
        self.dirty = True
