"""Results of tools that the sink is told of never overtake the response that asked for them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenwire
from tokenwire import MemoryBackend, Sink, background
from tokenwire._writing.outbox import Outbox
from tokenwire._writing.pending import PendingEvent
from tokenwire.backend import Entry, Outcome
from tokenwire.errors import BackendUnavailable
from tokenwire.events import SnapshotEvent
from tokenwire.memory import MemoryStore
from tokenwire.testing import FaultyBackend, Publish

PATIENCE = 30.0


@pytest.mark.parametrize("ended", [False, True])
@given(faults=st.lists(st.sampled_from([Publish.OK, Publish.FAIL, Publish.LOSE_REPLY]), max_size=2))
def test_a_response_on_its_way_comes_first(ended: bool, faults: list[Publish]) -> None:
    """Publishes that fail are tried again; meanwhile nothing goes past them."""
    store = MemoryBackend()
    with Sink(FaultyBackend(store, publish=faults)) as sink:
        response = sink.respond("c", response_id="r", run="run-1")
        response.tool_call("weather", "call-1", "{}")
        if ended:
            response.finish()
        sink.tool_result("c", "call-1", {"degrees": 7}, response_id="r", run="run-1")
        response.finish()
        assert sink.flush(PATIENCE)
    with Sink(store) as reader:
        (kept,) = reader.history("c").items
        assert [(reported.call_id, reported.output) for reported in kept.tool_results] == [
            ("call-1", {"degrees": 7})
        ]
        with reader.watch("c", rewind="all", response_id="r") as watch:
            (snapshot,) = watch
        assert isinstance(snapshot, tokenwire.SnapshotEvent)
        assert len(snapshot.response.tool_results) == 1


def test_a_response_of_somebody_else_is_not_waited_for() -> None:
    store = MemoryBackend()
    with Sink(store) as one, Sink(store) as other:
        response = one.respond("c", response_id="r")
        response.tool_call("weather", "call-1", "{}")
        assert one.flush(PATIENCE)
        other.tool_result("c", "call-1", 7, response_id="r")
        assert other.flush(PATIENCE)
        (kept,) = other.history("c").items
        assert [reported.output for reported in kept.tool_results] == [7]
        response.finish()


@given(faults=st.lists(st.sampled_from([*Publish]), max_size=3), begun=st.booleans())
def test_an_end_comes_after_what_was_published_before_it(
    faults: list[Publish], begun: bool
) -> None:
    """Who watches a response to its end misses nothing that its agent published before."""
    faults = [fault for fault in faults if fault not in (Publish.REJECT, Publish.REJECT_FIRST)]
    store = MemoryBackend()
    with Sink(store) as reader, reader.watch("c") as watch:
        backend = FaultyBackend(store)
        with Sink(backend) as sink:
            before = sink.respond("c", response_id="before")
            response = sink.respond("c", response_id="r")
            if begun:
                before.finish()
                assert sink.flush(PATIENCE)
            backend.stall()
            backend.publish_faults.extend(faults)
            before.finish()
            response.write("Sent.")
            sink.tool_result("c", "call-1", 7, response_id="before")
            sink.send_event("c", "progress", 1)
            response.finish()
            background.call_soon(sink, backend.unstall)
            assert sink.flush(PATIENCE)
        reader.send_event("c", "done")
        seen: list[str] = []
        for event in watch:
            seen.append(f"{event.type}:{event.response_id or ''}")
            if isinstance(event, tokenwire.DataEvent) and event.name == "done":
                break
    end = seen.index("end:r")
    assert "data:" in seen[:end]
    assert "tool_result:before" in seen[:end]


def test_a_late_result_makes_its_response_the_one_that_changed_last() -> None:
    with Sink(MemoryBackend()) as sink:
        for name in ("r0", "r1"):
            sink.respond("c", response_id=name).finish()
        sink.tool_result("c", "call-1", 7, response_id="r0")
        assert sink.flush(PATIENCE)
        reader = sink.reader("c", rewind=1)
        (item,) = reader.batch()
        reader.close()
        assert isinstance(item.event, SnapshotEvent)
        (result,) = item.event.response.tool_results
        assert (item.event.response.id, result.output) == ("r0", 7)


def test_an_end_does_not_wait_for_what_came_after_it() -> None:
    """Two that end, each followed by a result that may not overtake it: none waits for ever."""
    store = MemoryBackend()
    backend = FaultyBackend(store)
    backend.stall()
    with Sink(backend) as sink:
        for name in ("r1", "r2"):
            sink.respond("c", response_id=name).finish()
        for name in ("r1", "r2"):
            sink.tool_result("c", f"call-{name}", 7, response_id=name)
        background.call_soon(sink, backend.unstall)
        assert sink.flush(PATIENCE)
        assert [response.state for response in sink.history("c").items] == ["complete"] * 2


@pytest.mark.parametrize("fault", [Publish.REJECT, Publish.REJECT_FIRST])
def test_an_end_does_not_wait_for_what_was_refused(fault: Publish) -> None:
    backend = FaultyBackend(MemoryBackend())
    with Sink(backend) as sink:
        response = sink.respond("c", response_id="r")
        assert sink.flush(PATIENCE)
        backend.publish_faults.append(fault)
        sink.send_event("c", "progress", 1)
        response.finish()
        assert sink.flush(PATIENCE)
        assert sink.history("c").items[0].state == "complete"


class Reluctant(MemoryBackend):
    """Takes a data event at the third try only, and an end at the second."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.capabilities = msgspec.structs.replace(self.capabilities, inline=False)
        self.refusals = {"data": 2, "end": 1}

    async def publish(self, entries: Sequence[Entry]) -> list[Outcome]:
        return [(await self._publish_one(entry)) for entry in entries]

    async def _publish_one(self, entry: Entry) -> Outcome:
        kind = entry.events[-1].type
        if self.refusals.get(kind):
            self.refusals[kind] -= 1
            return Outcome(error=BackendUnavailable("not yet"))
        return (await super().publish([entry]))[0]


def test_an_end_that_is_tried_again_waits_for_what_is_tried_more_often() -> None:
    store = MemoryStore()
    with Sink(MemoryBackend(store)) as reader, reader.watch("c") as watch:
        with Sink(Reluctant(store)) as sink:
            response = sink.respond("c", response_id="r")
            assert sink.flush(PATIENCE)
            sink.send_event("c", "progress", 1)
            response.finish()
            assert sink.flush(PATIENCE)
        reader.send_event("c", "done")
        seen = [event.type for event in itertools.islice(watch, 4)]
    assert seen == ["start", "data", "end", "data"]


def test_a_result_that_comes_while_its_response_ends_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What comes behind an end is not what that end waits for."""
    events_of = Outbox.events_of

    def result_comes(outbox: Outbox, channel: str) -> tuple[PendingEvent, ...]:
        sink.tool_result("c", "call-1", 7, response_id="r")
        return events_of(outbox, channel)

    monkeypatch.setattr(Outbox, "events_of", result_comes)
    backend = FaultyBackend(MemoryBackend())
    with Sink(backend) as sink:
        response = sink.respond("c", response_id="r")
        response.tool_call("weather", "call-1", "{}")
        backend.stall()
        response.finish()
        background.call_soon(sink, backend.unstall)
        assert sink.flush(PATIENCE)
        (kept,) = sink.history("c").items
    assert [result.output for result in kept.tool_results] == [7]
