"""The same calls on Redis and in memory: whatever is asked, the answers are the same."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.deltas import deltas, texts
from tests.support.profile import scaled
from tokenwire._ids import new_id
from tokenwire.backend import Entry, Lease, Replay, ReplayFrom
from tokenwire.events import (
    CancelEvent,
    DataEvent,
    DeltaEvent,
    EndEvent,
    InputEvent,
    Part,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    ToolResult,
    ToolResultEvent,
)
from tokenwire.memory import MemoryBackend
from tokenwire_adapters.redis import RedisBackend

pytestmark = pytest.mark.redis

# What a producer says twice, it says in the same words: the head of a response, a tool's answer.
HEAD = {"run": "run", "metadata": {"a": [1]}}
IDS = st.sampled_from(["r1", "r2", "r3"])
TEXT = texts(max_pieces=3) | st.just("\x00")
PARTS = st.integers(0, 2)


@st.composite
def _events(draw, name):
    """Events of one response, some of which do not fit."""
    found = []
    if draw(st.integers(0, 5)) == 0:
        part = draw(PARTS)
        found += draw(deltas(name, part=part, kind=f"k{part}"))[1]
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["delta"] * 5 + ["part", "snapshot", "result", "start"]))
        if kind == "delta":
            found.append((draw(PARTS), draw(st.sampled_from([0, 0, 0, -1, -2, 1])), draw(TEXT)))
        elif kind == "part":
            part = PartEvent(response_id=name, part=draw(PARTS), kind="data", data={"n": 1})
            found.append(part)
        elif kind == "snapshot":
            parts = draw(
                st.lists(TEXT.map(lambda text: Part(kind="text", text=text * 5)), max_size=3)
            )
            calls = draw(st.lists(st.sampled_from("xyz"), max_size=2, unique=True))
            results = tuple(ToolResult(call_id=call, output=call) for call in calls)
            response = Response(
                id=name, parts=tuple(parts), tool_results=results, started_at=5, **HEAD
            )
            found.append(SnapshotEvent(response=response))
        elif kind == "result":
            call = draw(st.sampled_from("xyz"))
            found.append(ToolResultEvent(call_id=call, response_id=name, output=call))
        else:
            found.append(StartEvent(response_id=name, ts=5, **HEAD))
    return found


@st.composite
def _entries(draw):
    name = draw(IDS)
    events = draw(_events(name))
    if draw(st.integers(0, 3)) == 0:
        events.insert(0, StartEvent(response_id=name, ts=5, **HEAD))
    if draw(st.integers(0, 7)) == 0:
        states = st.sampled_from(["complete", "failed", "cancelled"])
        events.append(EndEvent(response_id=name, state=draw(states), usage={"n": 1}, ts=9))
    fence = draw(st.sampled_from(["a", "a", "a", "a", "b"]))
    return ("entry", name, fence, draw(st.sampled_from([1, 1, 1, 1, 0])), events)


SINGLES = st.one_of(
    st.builds(CancelEvent, response_id=IDS, reason=TEXT),
    st.builds(InputEvent, name=st.just("input"), data=TEXT),
    st.builds(DataEvent, name=st.just("data"), response_id=IDS | st.none()),
    st.builds(
        lambda call, name: ToolResultEvent(call_id=call, response_id=name, output=call),
        st.sampled_from("xyz"),
        IDS | st.none(),
    ),
)
STEPS = st.lists(
    st.one_of(
        _entries(),
        _entries(),
        _entries(),
        st.tuples(st.just("single"), SINGLES, st.sampled_from([None, "k1", "k2"])),
        st.tuples(st.just("renew"), IDS, st.sampled_from("ab")),
        st.tuples(st.just("replay"), st.sampled_from(["after", "count", "all", "live"]),
                  st.integers(0, 12), IDS | st.none()),
        st.tuples(st.just("history"), st.integers(1, 3)),
    ),
    min_size=4,
    max_size=30,
)  # fmt: skip


class Pair:
    """Redis and memory, given the same."""

    def __init__(self, redis, memory):
        self.backends = (redis, memory)
        self.channel = new_id("model-")
        self.seqs = {}
        self.lengths = {}
        self.cursors = []  # of both, after the same entry

    async def do(self, step):
        await getattr(self, step[0])(*step[1:])

    async def entry(self, name, fence, advance, events):
        seq = self.seqs[name] = self.seqs.get(name, 0) + advance
        lengths = dict(self.lengths.get(name, {}))
        real = []
        for event in events:
            if isinstance(event, tuple):  # a delta, more or less where the text ends
                part, slip, text = event
                have = lengths.get(part, 0)
                offset = max(0, have + slip)
                event = DeltaEvent(
                    response_id=name, part=part, kind=f"k{part}", offset=offset, text=text
                )
                lengths[part] = max(have, offset + len(text))
            if isinstance(event, SnapshotEvent):
                event = replace(event, response=replace(event.response, channel=self.channel))
            real.append(event)
        await self._publish(
            Entry(channel=self.channel, events=tuple(real), response_id=name, fence=fence, seq=seq,
                  lease=600.0)
        )  # fmt: skip
        kept = {one.id: one for one in (await self._history(self.backends[1], 100, None)).items}
        if name in kept:
            self.lengths[name] = {i: len(part.text) for i, part in enumerate(kept[name].parts)}

    async def single(self, event, key):
        await self._publish(Entry(channel=self.channel, events=(event,), key=key))

    async def _publish(self, entry):
        outcomes = []
        for backend in self.backends:
            # Cursors are set in the events: each backend gets its own.
            events = tuple(replace(event) for event in entry.events)
            (outcome,) = await backend.publish([replace(entry, events=events)])
            outcomes.append(outcome)
        ours, theirs = outcomes
        assert type(ours.error) is type(theirs.error), (ours.error, theirs.error)
        assert ours.state == theirs.state
        assert _bare(ours.cancel) == _bare(theirs.cancel)
        if ours.cursor and theirs.cursor:
            self.cursors.append((ours.cursor, theirs.cursor))

    async def renew(self, name, fence):
        ours, theirs = [
            (await backend.renew([Lease(self.channel, name, fence, 600.0)]))[0]
            for backend in self.backends
        ]
        assert ours.lost == theirs.lost
        assert _bare(ours.cancel) == _bare(theirs.cancel)

    async def replay(self, kind, number, name):
        replays = []
        for index, backend in enumerate(self.backends):
            start = {"all": True} if kind == "all" else {}
            if kind == "count":
                start = {"count": number}
            elif kind == "after" and self.cursors:
                start = {"after": self.cursors[-1 - number % len(self.cursors)][index]}
            replays.append(await _whole(backend, self.channel, name, start))
        ours, theirs = replays
        assert [_bare(event) for event in ours.events] == [_bare(event) for event in theirs.events]
        assert ours.reset == theirs.reset

    async def history(self, limit):
        ours, theirs = [await self._all_history(backend, limit) for backend in self.backends]
        assert [_sorted(one) for one in ours] == [_sorted(one) for one in theirs]

    async def _all_history(self, backend, limit):
        found, before = [], None
        while True:
            page = await self._history(backend, limit, before)
            found += page.items
            assert len(page.items) <= limit
            before = page.next
            if before is None:
                return found
            assert page.items

    async def _history(self, backend, limit, before):
        return await backend.history(self.channel, limit=limit, before=before)


async def _whole(backend, channel, name, start):
    """A replay, its pages put together; with the last one's cursor, and the first one's `reset`."""
    pages = [await backend.replay(channel, ReplayFrom(response_id=name, **start))]
    asked = set()
    while (following := pages[-1].next) is not None:
        assert following not in asked  # each piece goes further; what it has may be elsewhere, too
        asked.add(following)
        pages.append(await backend.replay(channel, following))
    events = tuple(event for page in pages for event in page.events)
    return Replay(events=events, cursor=pages[-1].cursor, reset=pages[0].reset)


def _bare(event):
    if isinstance(event, SnapshotEvent):
        event = replace(event, response=_sorted(event.response))
    return event and replace(event, cursor=None, ts=None)


def _sorted(response):
    """The order in which results of tools came is not kept through a snapshot."""
    results = sorted(response.tool_results, key=lambda result: result.call_id)
    return replace(response, tool_results=tuple(results))


@pytest.mark.parametrize("page_bytes", [2**20, 3000, 1])
@pytest.mark.parametrize("granularity", ["response", "token"])
def test_redis_answers_as_memory_does(shared_redis, granularity, page_bytes):
    with asyncio.Runner() as runner:
        redis = RedisBackend(shared_redis.url, granularity=granularity, page_bytes=page_bytes)

        async def run(steps):
            pair = Pair(redis, MemoryBackend(granularity=granularity))
            for step in [*steps, ("replay", "all", 0, None), ("history", 2)]:
                await pair.do(step)
            for number in range(0, len(pair.cursors), 3):
                await pair.replay("after", number, None)

        @settings(
            deadline=None,
            max_examples=scaled(50),
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(STEPS)
        def check(steps):
            runner.run(run(steps))

        try:
            check()
        finally:
            runner.run(redis.close())
