"""Where a client begins that knows nothing: at the beginning of the run that is under way."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import msgspec

from tokenwire import background
from tokenwire.backend import ReplayFrom
from tokenwire.events import (
    DataEvent,
    DeltaEvent,
    Event,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    ToolResultEvent,
)
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.ui.encoder import RunEncoder
from tokenwire_adapters._web.ui.state import is_envelope

__all__ = ["Run", "find_run", "open_run", "recent_runs"]

_PAGE = 20
_PAGES = 25
_PAGES_NAMED = 5  # a run that a client names need not be there at all
_SLACK = 2.0  # seconds that the clocks of a producer and a backend may be apart


class Run(msgspec.Struct, frozen=True):
    """A run of a channel.

    :ivar responses: those of its responses that are kept, oldest first.
    """

    id: str
    responses: tuple[Response, ...] = ()

    @property
    def envelope(self) -> Response | None:
        """The response that stands for the run, where one does."""
        for each in self.responses:
            if is_envelope(each.id, each.run, each.metadata):
                return each
        return None

    @property
    def message_id(self) -> str:
        """What the message is called that the run becomes, or goes on with."""
        envelope = self.envelope
        name = envelope.metadata.get("message_id") if envelope is not None else None
        return name if isinstance(name, str) else self.id

    @property
    def streaming(self) -> bool:
        """Whether anything of it has not ended."""
        return any(not each.ended for each in self.responses)

    @property
    def started_at(self) -> int | None:
        """When it began, in milliseconds since 1970, as far as is known."""
        return min((each.started_at for each in self.responses if each.started_at), default=None)


async def find_run(sink: Sink, channel: str, run: str | None = None) -> Run | None:
    """Find a run in the history of a channel.

    :param run: which; by default, the newest one that is under way.
    :raises BackendUnavailable: when the history cannot be read now.
    """
    pages = _PAGES if run is None else _PAGES_NAMED
    run = run or await _under_way(sink, channel)
    if run is None:
        return None
    found: list[Response] = []
    page = await sink.ahistory(channel, limit=_PAGE)
    for _ in range(pages):
        ours = [each for each in page.items if (each.run or each.id) == run]
        found += ours
        whole = any(is_envelope(each.id, each.run, each.metadata) for each in ours)
        # What stands for a run is the first of it.
        if whole or not page.has_next or (found and not ours):
            break
        following = await page.anext()
        if following is None:
            break
        page = following
    if not found:
        return None
    found.reverse()
    return Run(run, tuple(found))


async def recent_runs(sink: Sink, channel: str, *, responses: int = 200) -> list[Run]:
    """The runs of the newest responses of a channel, oldest first.

    :raises BackendUnavailable: when the history cannot be read now.
    """
    page = await sink.ahistory(channel, limit=responses)
    runs: dict[str, list[Response]] = {}
    for each in reversed(page.items):
        runs.setdefault(each.run or each.id, []).append(each)
    return [Run(name, tuple(each)) for name, each in runs.items()]


async def _under_way(sink: Sink, channel: str) -> str | None:
    """The newest run of which anything streams."""
    # Not by a watch: those that join alike share what was read a moment ago.
    replay = await background.arun(sink, sink.backend.replay(channel, ReplayFrom()))
    streaming = [
        event.response
        for event in reversed(replay.events)
        if isinstance(event, SnapshotEvent) and not event.response.ended
    ]
    for each in streaming:
        if is_envelope(each.id, each.run, each.metadata):
            return each.id
    return next((each.run or each.id for each in streaming), None)


async def open_run(
    sink: Sink,
    channel: str,
    encoder: RunEncoder,
    *,
    run: str | None = None,
    wait: bool = True,
) -> ChannelReader | None:
    """Watch a channel for a client that is to be told of one run, from its beginning.

    What has happened of the run so far is given to the encoder, whose `begin` tells it. Where
    nothing is under way, the encoder tells of the next run that begins.

    :param run: which; by default the one that is under way.
    :param wait: whether to wait for a run where none is there; else None is returned.
    :raises InvalidName, BackendUnavailable: as `Sink.reader` and `ChannelReader.aopen` do.
    """
    found = await find_run(sink, channel, run)
    if found is None or (run is None and not found.streaming):
        if not wait or run is not None:
            return None
        return await sink.reader(channel).aopen()
    began = found.started_at
    age = time.time() - began / 1000 if began else 0.0
    rewind = f"{math.ceil(max(0.0, age) + _SLACK)}s"
    watch = sink.reader(channel, rewind=rewind)
    try:
        await watch.aopen()
        events: list[Event] = []
        while items := await watch.ahydrate():
            events += [item.event for item in items]
        earlier = await _earlier(sink, channel, found)
        encoder.follow(
            found.id,
            enveloped=found.envelope is not None,
            after=[run.id for run in earlier],
            message_id=found.message_id,
        )
        told = [SnapshotEvent(response=each) for run in earlier for each in run.responses]
        encoder.prime([*told, *_in_order(found, events)])
    except BaseException:
        watch.close()
        raise
    return watch


async def _earlier(sink: Sink, channel: str, run: Run) -> list[Run]:
    """The runs whose message this one goes on with."""
    if run.message_id == run.id:
        return []
    runs = await recent_runs(sink, channel)
    return [each for each in runs if each.message_id == run.message_id and each.id != run.id]


def _in_order(run: Run, events: Sequence[Event]) -> list[Event]:
    """What a replay and the history tell of a run, as it happened, as far as can be told.

    Replays have a response where it was last written; a message has it where it began.
    """
    ids = {each.id for each in run.responses}
    ours = [event for event in events if _is_of(event, run.id, ids)]
    there = {event.response_id for event in ours if isinstance(event, StartEvent | SnapshotEvent)}
    missing: list[Event] = [
        SnapshotEvent(response=each) for each in run.responses if each.id not in there
    ]
    if any(isinstance(event, StartEvent | PartEvent | DeltaEvent) for event in ours):
        return [*missing, *ours]
    timed: list[tuple[int, Event]] = []
    at = 0
    for event in [*missing, *ours]:
        when = event.response.started_at if isinstance(event, SnapshotEvent) else event.ts
        at = when or at
        timed.append((at, event))
    timed.sort(key=lambda pair: pair[0])
    return [event for _, event in timed]


def _is_of(event: Event, run: str, ids: set[str]) -> bool:
    if isinstance(event, SnapshotEvent):
        return (event.response.run or event.response.id) == run
    if isinstance(event, StartEvent):
        return (event.run or event.response_id) == run
    if isinstance(event, DataEvent | ToolResultEvent) and event.run == run:
        return True
    return event.response_id in ids
