"""Random logs of events, good and bad, and what the Python reducer makes of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.support import deltas
from tokenwire import GapError, Response, Transcript
from tokenwire.events import (
    CancelEvent,
    DataEvent,
    DeltaEvent,
    EndEvent,
    Event,
    InputEvent,
    PartEvent,
    SnapshotEvent,
    StartEvent,
    ToolResultEvent,
    UnknownEvent,
    encode_json,
)

texts = deltas.texts()
_ids = st.sampled_from(["r1", "r2"])
_kinds = st.sampled_from(["text", "reasoning", "tool_call"])
_PART_FIELDS = ("kind", "text", "name", "call_id", "data", "provider_executed")
_calls = st.sampled_from(["c1", "c2", "c3"])


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    """What a producer of one response writes, in order."""
    response_id = draw(_ids)
    start = StartEvent(
        response_id=response_id,
        run="q1",
        channel="c",
        metadata={"m": "x"},
        ts=draw(st.integers(1, 9)),
    )
    story: list[Event] = [start]
    lengths: list[int] = []
    for _ in range(draw(st.integers(0, 10))):
        kind, created = draw(_kinds), True
        if not lengths or draw(st.integers(0, 3)) == 0:
            created = kind == "tool_call" or draw(st.booleans())
            if created:
                call = draw(_calls) if kind == "tool_call" else None
                story.append(
                    PartEvent(
                        response_id=response_id,
                        part=len(lengths),
                        kind=kind,
                        call_id=call,
                        data=draw(st.sampled_from([None, {"k": [1]}])),
                        provider_executed=draw(st.booleans()),
                    )
                )
            lengths.append(0)
        at = (
            draw(st.integers(0, len(lengths) - 1))
            if created and draw(st.booleans())
            else len(lengths) - 1
        )
        text = draw(texts)
        story.append(
            DeltaEvent(response_id=response_id, part=at, kind=kind, offset=lengths[at], text=text)
        )
        lengths[at] += len(text)
    if draw(st.booleans()):
        state: Any = draw(st.sampled_from(["complete", "cancelled", "failed", "abandoned"]))
        story.append(
            EndEvent(
                response_id=response_id, state=state, finish_reason="stop", usage={"n": 1}, ts=7
            )
        )
    return story


@st.composite
def _strangers(draw: st.DrawFn) -> Event:
    """An event that nobody ordered: any offset, any part, or of another kind."""
    response_id = draw(_ids)
    delta = DeltaEvent(
        response_id=response_id,
        part=draw(st.integers(0, 3)),
        kind=draw(_kinds),
        offset=draw(st.integers(0, 6)),
        text=draw(texts),
    )
    result = ToolResultEvent(
        call_id=draw(_calls),
        response_id=draw(st.sampled_from(["r1", "r2", None])),
        output={"a": draw(st.integers(0, 3))},
    )
    others: list[Event] = [
        CancelEvent(response_id=response_id),
        InputEvent(name="message", data="hi"),
        DataEvent(name="d", data=1, response_id=response_id),
        UnknownEvent(
            type="later", raw={"type": "later", "response_id": response_id}, response_id=response_id
        ),
        EndEvent(response_id=response_id, state="complete"),
    ]
    return draw(st.sampled_from([delta, delta, result, result, *others]))


def _snapshots(story: list[Event]) -> list[Event]:
    """A snapshot of the response after each event of its story."""
    transcript = Transcript()
    found: list[Event] = []
    for event in story:
        response = transcript.apply(event)
        assert response is not None
        found.append(SnapshotEvent(response=response))
    return found


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """A log as a reader may meet it: repeats, holes, reorderings, snapshots, strangers."""
    log: list[Event] = []
    if draw(st.integers(0, 3)) == 0:
        response_id = draw(_ids)
        log += [StartEvent(response_id=response_id), *draw(deltas.deltas(response_id))[1]]
    for _ in range(draw(st.integers(1, 2))):
        story = draw(stories())
        snapshots = _snapshots(story)
        for event in story:
            chance = draw(st.integers(0, 15))
            if chance == 0:
                continue
            log.append(event)
            if chance == 1:
                log.append(draw(st.sampled_from(story)))
            elif chance == 2:
                log.append(snapshots[draw(st.integers(0, len(snapshots) - 1))])
            elif chance in (3, 5):
                log.append(draw(_strangers()))
            elif chance == 4 and len(log) > 1:
                log[-2:] = log[:-3:-1]
    return log


def as_json(log: list[Event]) -> str:
    """The log as it travels."""
    return f"[{','.join(encode_json(event).decode() for event in log)}]"


def folded(log: list[Event]) -> list[Any]:
    """What the Python reducer has after each event."""
    transcript = Transcript()
    found: list[Any] = []
    for event in log:
        try:
            response = transcript.apply(event)
        except GapError:
            found.append("gap")
        else:
            found.append(None if response is None else _plain(response))
    return found


def _plain(response: Response) -> dict[str, Any]:
    return {
        "id": response.id,
        "channel": response.channel,
        "run": response.run,
        "state": response.state,
        "parts": [{name: getattr(part, name) for name in _PART_FIELDS} for part in response.parts],
        "tool_results": [
            {name: getattr(result, name) for name in ("call_id", "name", "output", "error")}
            for result in response.tool_results
        ],
        "finish_reason": response.finish_reason,
        "usage": response.usage,
        "error": response.error,
        "metadata": response.metadata,
        "started_at": response.started_at,
        "ended_at": response.ended_at,
        "joined": [response.text, response.reasoning],
        "ended": response.ended,
    }
