"""Finds the runs of a channel, and joins one at its beginning."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tokenwire import background
from tokenwire.approvals import ApprovalRequest, pending_in
from tokenwire.backend import ReplayFrom
from tokenwire.events import (
    DataEvent,
    DeltaEvent,
    Event,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    State,
    ToolResultEvent,
)
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.ui.state import MAY_WAIT, is_envelope, run_of, run_shown_by

__all__ = ["JoinedRun", "Run", "find_run", "join_run", "recent_runs", "run_ended_within"]

_PAGE_SIZE = 20  # responses
_MAX_PAGES = 25
_MAX_PAGES_NAMED = 5  # a run that a client names need not exist at all
_CLOCK_SLACK = 2.0  # seconds by which the clocks of a producer and a backend may differ


class Run(msgspec.Struct, frozen=True):
    """A run of a channel.

    :ivar responses: those of its responses that are kept, oldest first.
    """

    id: str
    responses: tuple[Response, ...] = ()

    @property
    def envelope(self) -> Response | None:
        """The response that represents the run, where there is one."""
        return _envelope_in(self.responses)

    @property
    def metadata(self) -> dict[str, Any]:
        """What it was begun with: the metadata of its envelope."""
        return {} if self.envelope is None else self.envelope.metadata

    @property
    def message_id(self) -> str:
        """The id of the message that the run becomes, or continues."""
        message_id = self.metadata.get("message_id")
        return message_id if isinstance(message_id, str) else self.id

    @property
    def streaming(self) -> bool:
        """Whether any of its responses has not ended."""
        return any(not response.ended for response in self.responses)

    @property
    def questions(self) -> list[ApprovalRequest]:
        """What it asks approval of, and somebody may still answer."""
        lead = self.envelope or self.responses[-1]
        return pending_in(self.responses) if lead.state in MAY_WAIT else []

    @property
    def awaits_page(self) -> bool:
        """Whether it ended with calls of tools that nobody has answered: a page may run them."""
        answered = {result.call_id for r in self.responses for result in r.tool_results}
        calls = [call for response in self.responses for call in response.tool_calls]
        return any(not (call.provider_executed or call.call_id in answered) for call in calls)

    @property
    def state(self) -> State:
        """How it ended: as its envelope did, else as its last response; or ``streaming``."""
        return "streaming" if self.streaming else (self.envelope or self.responses[-1]).state

    @property
    def ended_at(self) -> int | None:
        """When it ended, in milliseconds since 1970, as far as is known."""
        ends = [response.ended_at for response in self.responses if response.ended_at]
        return None if self.streaming else max(ends, default=None)

    @property
    def started_at(self) -> int | None:
        """When it began, in milliseconds since 1970, as far as is known."""
        return min((r.started_at for r in self.responses if r.started_at), default=None)


class JoinedRun(msgspec.Struct, frozen=True):
    """A channel opened at the beginning of a run.

    :ivar reader: the channel, open, at the live events.
    :ivar run: the run; None where none is under way.
    :ivar earlier: ids of the runs whose message this one continues.
    :ivar events: what has happened of these runs, in order.
    """

    reader: ChannelReader
    run: Run | None = None
    earlier: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()


async def find_run(sink: Sink, channel: str, run: str | None = None) -> Run | None:
    """Find a run in the history of a channel.

    :param run: which; by default, the newest one that is under way.
    :raises BackendUnavailable: when the history cannot be read now.
    """
    max_pages = _MAX_PAGES if run is None else _MAX_PAGES_NAMED
    run = run or await _active_run(sink, channel)
    if run is None:
        return None
    responses: list[Response] = []
    page = await sink.ahistory(channel, limit=_PAGE_SIZE)
    for _ in range(max_pages):
        matching = [response for response in page.items if run_of(response) == run]
        responses += matching
        complete = _envelope_in(matching) is not None  # it is the first response of its run
        if complete or not page.has_next or (responses and not matching):
            break
        following = await page.anext()
        if following is None:
            break
        page = following
    if not responses:
        return None
    responses.reverse()
    return Run(run, tuple(responses))


async def recent_runs(sink: Sink, channel: str, *, responses: int = 200) -> list[Run]:
    """The runs of the newest responses of a channel, oldest first.

    :raises BackendUnavailable: when the history cannot be read now.
    """
    page = await sink.ahistory(channel, limit=responses)
    by_run: dict[str, list[Response]] = {}
    for response in reversed(page.items):
        by_run.setdefault(run_of(response), []).append(response)
    return [Run(run, tuple(members)) for run, members in by_run.items()]


async def run_ended_within(sink: Sink, channel: str, seconds: float) -> Run | None:
    """The newest run, where it ended of itself no longer ago than `seconds`.

    One that was stopped does not count, nor one whose calls a page is to answer: a page that was
    shown it once more would run its tools again.

    :raises BackendUnavailable: when the history cannot be read now.
    """
    newest = await _newest_run(sink, channel)
    run = None if newest is None else await find_run(sink, channel, newest)
    if run is None or run.state in ("streaming", "cancelled") or run.awaits_page:
        return None
    ended_at = run.ended_at
    recent = ended_at is not None and time.time() - ended_at / 1000 <= seconds
    return run if recent else None


async def _newest_run(sink: Sink, channel: str) -> str | None:
    """The run of the newest response."""
    page = await sink.ahistory(channel, limit=1)
    return next(map(run_of, page.items), None)


async def _active_run(sink: Sink, channel: str) -> str | None:
    """The newest run of which anything streams."""
    # Not through a watch: watches that join alike share a replay that is up to a second old.
    replay = await background.arun(sink, sink.backend.replay(channel, ReplayFrom()))
    streaming = [
        event.response
        for event in reversed(replay.events)
        if isinstance(event, SnapshotEvent) and not event.response.ended
    ]
    envelope = _envelope_in(streaming)
    return next(map(run_of, streaming), None) if envelope is None else envelope.id


def _envelope_in(responses: Iterable[Response]) -> Response | None:
    """The first of these responses that represents its whole run."""
    return next((r for r in responses if is_envelope(r.id, r.run, r.metadata)), None)


async def join_run(
    sink: Sink,
    channel: str,
    *,
    run: str | None = None,
    wait: bool = True,
    earlier: bool = True,
) -> JoinedRun | None:
    """Open a channel at the beginning of one run.

    :param run: which; by default the one that is under way.
    :param wait: whether to wait for a run where there is none; else None is returned.
    :param earlier: whether to give the events, too, of runs whose message this one continues.
    :raises InvalidName, BackendUnavailable: as `Sink.reader` and `ChannelReader.aopen` do.
    """
    newest = await _newest_run(sink, channel) if wait and run is None else None
    found = await find_run(sink, channel, run)
    if found is None or (run is None and not found.streaming):
        if not wait or run is not None:
            return None
        live = await sink.reader(channel).aopen()
        try:
            # One that began before the channel was open may be over by now.
            began = await _newest_run(sink, channel)
            found = None if began == newest else await find_run(sink, channel, began)
        except BaseException:
            live.close()
            raise
        if found is None:
            return JoinedRun(live)
        live.close()
    age = time.time() - found.started_at / 1000 if found.started_at else 0.0
    rewind = f"{math.ceil(max(0.0, age) + _CLOCK_SLACK)}s"
    reader = sink.reader(channel, rewind=rewind)
    try:
        await reader.aopen()
        replayed: list[Event] = []
        while items := await reader.ahydrate():
            replayed += [item.event for item in items]
        continued = await _continued_runs(sink, channel, found) if earlier else []
    except BaseException:
        reader.close()
        raise
    before = [SnapshotEvent(response=response) for run in continued for response in run.responses]
    events = (*before, *_in_order(found, replayed))
    return JoinedRun(reader, found, tuple(run.id for run in continued), events)


async def _continued_runs(sink: Sink, channel: str, run: Run) -> list[Run]:
    """The runs whose message this one continues."""
    if run.message_id == run.id:
        return []
    runs = await recent_runs(sink, channel)
    return [other for other in runs if other.message_id == run.message_id and other.id != run.id]


def _in_order(run: Run, events: Sequence[Event]) -> list[Event]:
    """The events of a run from a replay and from history, in the order in which they happened.

    A replay has a response where it was last written; a message has it where it began.
    """
    ids = {response.id for response in run.responses}
    replayed = [event for event in events if _is_of(event, run.id, ids)]
    begun = {e.response_id for e in replayed if isinstance(e, StartEvent | SnapshotEvent)}
    missing: list[Event] = [
        SnapshotEvent(response=response) for response in run.responses if response.id not in begun
    ]
    if any(isinstance(event, StartEvent | PartEvent | DeltaEvent) for event in replayed):
        return [*missing, *replayed]
    timed: list[tuple[int, Event]] = []
    time_ms = 0
    for event in [*missing, *replayed]:
        began = event.response.started_at if isinstance(event, SnapshotEvent) else event.ts
        time_ms = began or time_ms
        timed.append((time_ms, event))
    timed.sort(key=lambda pair: pair[0])
    return [event for _, event in timed]


def _is_of(event: Event, run: str, ids: set[str]) -> bool:
    shown = run_shown_by(event)
    if shown is not None:
        return shown == run
    if isinstance(event, DataEvent | ToolResultEvent) and event.run == run:
        return True
    return event.response_id in ids
