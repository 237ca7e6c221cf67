"""The reducer: repeats change nothing, holes are seen, and every route to a state is the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire import (
    DeltaEvent,
    EndEvent,
    Event,
    GapError,
    Part,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    ToolResultEvent,
    Transcript,
    fold,
)
from tokenwire.response import Assembler

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.integers(0, 3), _TEXTS),
        st.tuples(st.just("part"), st.sampled_from(["tool_call", "data"]), _TEXTS),
        st.tuples(st.just("result"), st.sampled_from(["c1", "c2"]), _TEXTS),
    ),
    max_size=20,
)


def events_of(steps: list[tuple[str, object, str]], *, ended: bool) -> list[Event]:
    """A producer's log."""
    events: list[Event] = [StartEvent(response_id="r", run="run", metadata={"a": 1})]
    lengths: list[int] = []
    for what, which, text in steps:
        if what == "part":
            events.append(PartEvent(response_id="r", part=len(lengths), kind=str(which), name=text))
            lengths.append(0)
        elif what == "result":
            events.append(ToolResultEvent(response_id="r", call_id=str(which), output=text))
        else:
            part = min(int(str(which)), len(lengths))
            if part == len(lengths):
                lengths.append(0)
            events.append(
                DeltaEvent(response_id="r", part=part, kind="text", offset=lengths[part], text=text)
            )
            lengths[part] += len(text)
    if ended:
        events.append(EndEvent(response_id="r", state="complete", finish_reason="stop"))
    return events


def folded(events: list[Event], state: Response | None = None) -> Response | None:
    for event in events:
        state = fold(state, event)
    return state


@given(_STEPS, st.booleans(), st.data())
def test_repeats_change_nothing(
    steps: list[tuple[str, object, str]], ended: bool, data: st.DataObject
) -> None:
    events = events_of(steps, ended=ended)
    state = folded(events)
    for event in data.draw(st.lists(st.sampled_from(events), max_size=8)):
        assert fold(state, event) is state


@given(_STEPS, st.booleans(), st.data())
def test_a_snapshot_stands_for_what_came_before_it(
    steps: list[tuple[str, object, str]], ended: bool, data: st.DataObject
) -> None:
    events = events_of(steps, ended=ended)
    cut = data.draw(st.integers(1, len(events)))
    back = data.draw(st.integers(0, cut))
    middle = folded(events[:cut])
    assert middle is not None
    joined = fold(folded(events[:back]) if back else None, SnapshotEvent(response=middle))
    assert joined == middle
    assert folded(events[back:], joined) == folded(events)


@given(_STEPS, st.booleans(), st.data())
def test_a_missing_event_is_seen_or_did_not_matter(
    steps: list[tuple[str, object, str]], ended: bool, data: st.DataObject
) -> None:
    events = events_of(steps, ended=ended)
    gone = data.draw(st.integers(0, len(events) - 1))
    rest = events[:gone] + events[gone + 1 :]
    try:
        state = folded(rest)
    except GapError:
        return
    whole = folded(events)
    assert whole is not None
    if state is None:
        return
    # Nothing came after it in its part: what is there is a prefix.
    for have, full in zip(state.parts, whole.parts, strict=False):
        assert full.text.startswith(have.text)


@given(_STEPS, st.booleans())
def test_the_assembler_folds_alike(steps: list[tuple[str, object, str]], ended: bool) -> None:
    events = events_of(steps, ended=ended)
    assembler = Assembler("r")
    assembler.check(events)
    state: Response | None = None
    for event in events:
        before = state
        state = fold(state, event)
        assert assembler.apply(event) == (state is not before)
        assert assembler.response == state
    assert Transcript(events)["r"] == state


@given(_STEPS, st.data())
def test_check_agrees_with_folding(
    steps: list[tuple[str, object, str]], data: st.DataObject
) -> None:
    events = events_of(steps, ended=False)
    some = [event for event in events if data.draw(st.booleans())]
    try:
        folded(some)
        fits = True
    except GapError:
        fits = False
    try:
        Assembler("r").check(some)
        assert fits
    except GapError:
        assert not fits


def test_check_passes_over_a_snapshot_that_is_behind() -> None:
    assembler = Assembler("r")
    behind = SnapshotEvent(response=Response(id="r", parts=(Part(kind="text", text="ab"),)))
    assembler.apply(StartEvent(response_id="r"))
    assembler.apply(DeltaEvent(response_id="r", part=0, kind="text", offset=0, text="abcd"))
    delta = DeltaEvent(response_id="r", part=0, kind="text", offset=4, text="ef")
    assembler.check([behind, delta])
    for event in (behind, delta):
        assembler.apply(event)
    assert assembler.response.text == "abcdef"


def test_a_snapshot_that_is_ahead_keeps_results_that_it_does_not_have() -> None:
    """Its producer need not know of a tool's result that another process has sent."""
    state = fold(None, StartEvent(response_id="r"))
    state = fold(state, ToolResultEvent(response_id="r", call_id="call-1", output="42"))
    ahead = Response(id="r", parts=(Part(kind="text", text="more"),))
    state = fold(state, SnapshotEvent(response=ahead))
    assert state is not None
    assert state.text == "more"
    assert [(result.call_id, result.output) for result in state.tool_results] == [("call-1", "42")]


def test_overlapping_text_adds_what_is_new() -> None:
    state = folded(events_of([("text", 0, "Hello")], ended=False))
    state = fold(state, DeltaEvent(response_id="r", part=0, kind="text", offset=3, text="lo Wo"))
    assert state is not None
    assert state.text == "Hello Wo"


def test_a_hole_is_refused_and_changes_nothing() -> None:
    state = folded(events_of([("text", 0, "Hello")], ended=False))
    for event in (
        DeltaEvent(response_id="r", part=0, kind="text", offset=6, text="x"),
        DeltaEvent(response_id="r", part=2, kind="text", offset=0, text="x"),
        PartEvent(response_id="r", part=3, kind="data"),
    ):
        with pytest.raises(GapError, match="'r'"):
            fold(state, event)
    with pytest.raises(GapError, match="has not started"):
        fold(None, DeltaEvent(response_id="r", part=0, kind="text", offset=0, text="x"))


def test_what_comes_after_the_end_changes_nothing() -> None:
    state = folded(events_of([("text", 0, "Hello")], ended=True))
    assert state is not None
    late = DeltaEvent(response_id="r", part=0, kind="text", offset=5, text="!")
    assert fold(state, late) is state
    assert fold(state, EndEvent(response_id="r", state="failed")) is state
    assert fold(state, PartEvent(response_id="r", part=1, kind="data")) is state
    result = fold(state, ToolResultEvent(response_id="r", call_id="c", output=1))
    assert result is not None
    assert result.tool_results[0].output == 1


def test_other_responses_are_left_alone() -> None:
    state = folded(events_of([("text", 0, "Hello")], ended=False))
    assert fold(state, StartEvent(response_id="other")) is state
