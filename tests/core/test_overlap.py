"""Arithmetic of deltas: `overlap` lets through a prefix, and joined deltas fold alike."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.support.deltas import cuts, deltas, texts
from tokenwire import DeltaEvent, EndEvent, Event, GapError, PartEvent, StartEvent, Transcript
from tokenwire._reading.dedup import Deduplicator
from tokenwire.response import merge_deltas, overlap


@given(st.data(), texts())
def test_what_overlap_lets_through_is_a_prefix(data: st.DataObject, text: str) -> None:
    have = ""
    covered: set[int] = set()
    for offset, piece in data.draw(cuts(text)):
        new = overlap(len(have), offset, piece)
        if new is None:
            assert offset > len(have)
            continue
        have += new
        covered |= set(range(offset, offset + len(piece)))
        assert have == text[: len(have)]  # no repeat, no hole
        assert covered == set(range(len(have)))  # and all of it


@given(st.data(), texts())
def test_whoever_keeps_what_is_early_gets_the_whole_text(data: st.DataObject, text: str) -> None:
    pieces = data.draw(cuts(text))
    complete = {at for offset, piece in pieces for at in range(offset, offset + len(piece))}
    have = ""
    for _ in pieces:
        for offset, piece in pieces:
            have += overlap(len(have), offset, piece) or ""
    assert have == text if len(complete) == len(text) else text.startswith(have)


@given(deltas())
def test_a_reader_behind_the_deduplicator_gets_each_code_point_once(
    log: tuple[str, list[DeltaEvent]],
) -> None:
    text, events = log
    deduplicator, have = Deduplicator(), ""
    deduplicator.admit(StartEvent(response_id="r"))
    for event in events:
        admitted = deduplicator.admit(event)
        if isinstance(admitted, DeltaEvent):
            assert admitted.offset == len(have)
            assert admitted.text
            have += admitted.text
            assert text.startswith(have)


def test_late_writes_are_known_as_such_however_many_responses_have_ended() -> None:
    deduplicator = Deduplicator(lenient=True)
    for n in range(1100):
        deduplicator.admit(StartEvent(response_id=f"r{n}"))
        deduplicator.admit(EndEvent(response_id=f"r{n}", state="complete"))
    late = DeltaEvent(response_id="r1099", part=0, kind="text", offset=0, text="late")
    assert deduplicator.admit(late) is None
    assert deduplicator.admit(EndEvent(response_id="r1099", state="complete")) is None


@st.composite
def _logs(draw: st.DrawFn) -> list[Event]:
    """Deltas of several parts and responses, whose kinds may change, among other events."""
    log: list[Event] = [StartEvent(response_id="r"), StartEvent(response_id="s")]
    lengths: dict[tuple[str, int], int] = {}
    for n in range(draw(st.integers(1, 12))):
        response_id, part = draw(st.sampled_from("rs")), draw(st.integers(0, 1))
        kind = draw(st.sampled_from(["text", "reasoning"]))
        what = draw(st.sampled_from(["next", "next", "next", "any", "part"]))
        if what == "next":
            text, offset = (
                draw(st.sampled_from(["a", "b", "cd"])),
                lengths.get((response_id, part), 0),
            )
            log.append(
                DeltaEvent(response_id=response_id, part=part, kind=kind, offset=offset, text=text)
            )
            lengths[response_id, part] = offset + len(text)
        elif what == "any":
            log += draw(deltas(response_id, part=part, kind=kind))[1]
        else:
            log.append(PartEvent(response_id=response_id, part=n % 3, kind="data", data=n))
    if draw(st.booleans()):
        log.append(EndEvent(response_id="r", state="complete"))
    return log


def _folded(events: list[Event]) -> list[object]:
    """What a reader has that passes over what does not fit."""
    transcript = Transcript()
    for event in events:
        try:
            transcript.apply(event)
        except GapError:
            continue
    return list(transcript)


@given(_logs())
def test_joined_deltas_fold_to_the_same(log: list[Event]) -> None:
    merged = merge_deltas(log)
    assert _folded(merged) == _folded(log)
    assert len(merged) <= len(log)
    assert merge_deltas(merged) == merged
    for before, after in pairwise(merged):
        assert not (
            isinstance(before, DeltaEvent)
            and isinstance(after, DeltaEvent)
            and (before.response_id, before.part) == (after.response_id, after.part)
            and before.offset + len(before.text) == after.offset
        )


def test_a_joined_delta_takes_the_cursor_and_the_time_of_its_last() -> None:
    log = [
        DeltaEvent(response_id="r", part=0, kind="text", offset=0, text="ab", cursor="1", ts=1),
        DeltaEvent(response_id="r", part=0, kind="text", offset=2, text="cd", cursor="2", ts=2),
    ]
    assert merge_deltas(log) == [
        DeltaEvent(response_id="r", part=0, kind="text", offset=0, text="abcd", cursor="2", ts=2)
    ]
