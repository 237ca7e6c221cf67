"""Results of tools that the sink is told of never overtake the response that asked for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenwire
from tokenwire import MemoryBackend, Sink
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
