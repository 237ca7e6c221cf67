"""A bad network between us and Redis: whatever it does, nothing is lost and nothing repeated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.redis_support import FaultyProxy, RedisServer, Step, scripts
from tests.support.profile import scaled
from tokenwire import open_sink
from tokenwire._ids import new_id
from tokenwire.backend import Granularity
from tokenwire.events import DataEvent, DeltaEvent
from tokenwire.testing import Script, Spectator
from tokenwire.testing import scripts as written

pytestmark = pytest.mark.redis
PATIENCE = 60.0
QUICK = {"timeout": 1.0, "health": 0.5}


@pytest.fixture(scope="module")
def proxy(_one_redis: RedisServer) -> Iterator[FaultyProxy]:
    with FaultyProxy((_one_redis.host, _one_redis.port)) as started:
        yield started


def _storm(proxy: FaultyProxy, granularity: Granularity, seed: int, faults: tuple[Step, ...]):
    channel = new_id("storm-")
    played: dict[str, Script] = dict(
        zip(("r1", "r2", "r3"), written(seed, tokens=40), strict=False)
    )
    options = {"granularity": granularity, "lease": 60.0, **QUICK}
    with (
        open_sink(proxy.url, close_timeout=30.0, **options) as sink,
        open_sink(proxy.url, **options) as reader,
    ):
        watches = [reader.watch(channel).open()]
        playing = proxy.play(faults)
        writers = {name: sink.respond(channel, response_id=name) for name in played}
        for number in range(40):
            for name, script in played.items():
                kind, text = script.tokens[number]
                writers[name].write(text, kind=kind)
            sink.flush(0.02)  # so that the faults hit something
            if number == 20:
                sink.send_event(channel, "midway")
                watches.append(reader.watch(channel, rewind="all"))
        for writer in writers.values():
            writer.finish("stop")
        for writer in writers.values():
            assert writer.wait(PATIENCE).status in ("delivered", "recovered")
        assert sink.flush(PATIENCE)
        playing.cancel()
        proxy.heal()
        sink.send_event(channel, "done")
        for watch in watches:
            spectator = Spectator()
            done = lambda event: isinstance(event, DataEvent) and event.name == "done"  # noqa: E731
            spectator.watch(watch, done, timeout=PATIENCE)
            watch.close()
            for name, script in played.items():
                assert spectator[name].text == script.text
                assert spectator[name].reasoning == script.reasoning
                assert spectator[name].state == "complete"
                assert spectator.ends[name] == 1
        kept = {response.id: response for response in reader.history(channel).items}
        assert {name: kept[name].text for name in played} == {
            name: script.text for name, script in played.items()
        }
        (midway,) = [
            event
            for event in _all(reader.watch(channel, rewind="all"))
            if isinstance(event, DataEvent) and event.name == "midway"
        ]
        assert midway.cursor


def _all(watch):
    spectator = Spectator()
    spectator.watch(
        watch, lambda event: isinstance(event, DataEvent) and event.name == "done", timeout=PATIENCE
    )
    watch.close()
    return spectator.seen


@pytest.mark.slow
@settings(
    max_examples=scaled(10),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    faults=scripts(longest=0.2),
    seed=st.integers(0, 10**6),
    granularity=st.sampled_from(["response", "token"]),
)
def test_any_weather_leaves_the_exact_text(proxy, faults, seed, granularity):
    _storm(proxy, granularity, seed, faults)


def test_a_lost_reply_repeats_nothing(proxy, shared_redis):
    with open_sink(proxy.url, **QUICK) as sink, open_sink(proxy.url, **QUICK) as reader:
        watch = reader.watch("lost-reply").open()
        with sink.respond("lost-reply", response_id="r") as response:
            for number in range(30):
                proxy.lose_reply(matching=b"EVALSHA")
                response.write(f"{number} ")
                assert sink.flush(PATIENCE)
        assert response.wait(PATIENCE).status == "delivered"  # no snapshot was needed
        proxy.lose_reply(matching=b"EVALSHA")
        sink.send_event("lost-reply", "done")
        events = _all(watch)
        proxy.heal()
        assert "".join(e.text for e in events if isinstance(e, DeltaEvent)) == "".join(
            f"{number} " for number in range(30)
        )
        # The log itself has nothing twice: the start (alone or not), 30 writes, the
        # end, and the data event.
        assert shared_redis.cli("XLEN", "tokenwire:{lost-reply}:log") in (32, 33)
