"""Random event logs of a channel, and the ways in which a watcher may come to see them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tokenwire.events import (
    DataEvent,
    DeltaEvent,
    EndEvent,
    Event,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    ToolResultEvent,
)
from tokenwire.response import Transcript
from tokenwire_adapters._web.ui.state import ENVELOPE

TEXTS = st.sampled_from([" a", "b", "\n", "東", "🙂", '"\\', "xyz" * 5, "__proto__", "\u2028"])
ARGUMENTS = [
    "{}",
    "",
    '{"city": "São Paulo", "days": 4}',
    '{"__proto__": {"a": 1}, "constructor": {"prototype": 2}, "b": "\\u2028"}',
    "[1, 2.5, null]",
    "SELECT 1",
    '{"cut": "of',
]
SOURCES: list[Any] = [
    {"type": "url_citation", "url": "https://example.org/a", "title": "A"},
    {"type": "char_location", "document_title": "Doc", "cited_text": "x"},
    {"url": "javascript:alert(1)"},
    {"type": "url_citation", "url_citation": {"url": "http://b.example", "title": "B"}},
    {},
]
FILES: list[Any] = [
    {"url": "https://example.org/a.png", "media_type": "image/png"},
    {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
    {"file_id": "f1"},
    {"type": "image", "source": {"type": "base64", "data": "aGk=", "media_type": "image/gif"}},
]
OUTPUTS: list[Any] = ["sunny", {"t": 21, "__proto__": {"x": 1}}, [1, None], None, 0]
ENDS = ["complete", "complete", "complete", "cancelled", "failed", "abandoned"]


@dataclass
class Writer:
    id: str
    run: str
    envelope: bool
    parts: list[list[Any]] = field(default_factory=list)  # kind, length, arguments left
    calls: list[str] = field(default_factory=list)
    ended: bool = False


@dataclass
class Log:
    """Events in order, of which `main` is the run to look at."""

    events: list[Event] = field(default_factory=list)
    writers: list[Writer] = field(default_factory=list)
    results: dict[str, ToolResultEvent] = field(default_factory=dict)
    run: str = "run-main"

    @property
    def enveloped(self) -> bool:
        return any(writer.envelope for writer in self.writers)

    def put(self, event: Event) -> None:
        self.events.append(event)

    def responses(self, upto: int | None = None) -> list[Response]:
        """The responses of the run, in order."""
        transcript = Transcript(self.events[:upto])
        return [each for each in transcript if (each.run or each.id) == self.run]

    def outcome(self) -> Response:
        """The response that says how the run ended."""
        responses = self.responses()
        envelope = next((each for each in responses if each.id == self.run), None)
        if envelope is None:
            return responses[-1]
        replies = [each for each in responses if each is not envelope]
        if envelope.state == "complete" and not any(part.text for part in envelope.parts):
            last = max(replies, key=lambda reply: reply.started_at or 0, default=envelope)
            if last.state in ("failed", "abandoned"):
                return last
        return envelope

    def joined(self, at: int) -> list[Event]:
        """What a watcher is given that joins after `at` events: snapshots, then what comes."""
        return [*self.snapshots(at), *self.events[at:]]

    def snapshots(self, at: int, begin: int = 0) -> list[Event]:
        """What changed from `begin` to `at`, as backends replay it: where it was written last."""
        found: dict[str, Event | None] = {}
        for index, event in enumerate(self.events[begin:at]):
            single = isinstance(event, ToolResultEvent | DataEvent)
            if single:
                found[f"#{index}"] = event
            if event.response_id is not None:
                found.pop(event.response_id, None)
                found[event.response_id] = None
        transcript = Transcript(self.events[:at])
        return [
            SnapshotEvent(response=transcript[name]) if event is None else event
            for name, event in found.items()
            if event is not None or name in transcript
        ]

    def conflated(self, begin: int, end: int) -> list[Event]:
        """The events, with snapshots in place of those from `begin` to `end`."""
        return [*self.events[:begin], *self.snapshots(end, begin), *self.events[end:]]


@st.composite
def logs(draw: st.DrawFn, *, end_all: bool = True) -> Log:
    """Runs with an envelope, a lone response or tool calls, beside responses of other runs."""
    log = Log()
    envelope = draw(st.booleans())
    if envelope:
        _start(log, log.run, log.run, envelope=True)
    steps = draw(st.integers(1, 3)) if envelope else 1
    for step in range(steps):
        ours = [_start(log, f"r{step}", log.run)]
        if draw(st.booleans()):
            _start(log, f"x{step}", "run-other")
        if envelope and draw(st.booleans()):
            ours.append(_start(log, f"p{step}", log.run))
        for _ in range(draw(st.integers(0, 12))):
            _act(draw, log)
            if draw(st.booleans()) and ours[0].calls:
                _result(draw, log, ours[0], draw(st.sampled_from(ours[0].calls)))
        for writer in ours:
            if draw(st.booleans()) or not envelope:
                _end(draw, log, writer)
    # What stands for a run ends last.
    for writer in sorted(log.writers, key=lambda each: each.envelope):
        if not writer.ended and not (writer.envelope and not end_all):
            for call in writer.calls if draw(st.booleans()) else ():
                _result(draw, log, writer, call)
            _end(draw, log, writer)
    return log


def _start(log: Log, name: str, run: str, *, envelope: bool = False) -> Writer:
    writer = Writer(name, run, envelope)
    log.writers.append(writer)
    metadata = {ENVELOPE: {}} if envelope else {}
    log.put(
        StartEvent(response_id=name, channel="c", run=run, metadata=metadata, ts=len(log.events))
    )
    return writer


def _act(draw: st.DrawFn, log: Log) -> None:
    writer = draw(st.sampled_from(log.writers))
    action = draw(st.integers(0, 8))
    if action == 7 and writer.calls:
        _result(draw, log, writer, draw(st.sampled_from(writer.calls)))
    elif action == 8:
        run = writer.run if draw(st.booleans()) else None
        name = None if run else writer.id
        log.put(
            DataEvent(
                name="note", data={"n": 1}, id=f"d{len(log.events)}", run=run, response_id=name
            )
        )
    elif writer.ended:
        return
    elif action <= 2 and writer.parts:
        _more(draw, log, writer, draw(st.integers(0, len(writer.parts) - 1)))
    elif action <= 4:
        kind = draw(st.sampled_from(["text", "reasoning", "refusal"]))
        writer.parts.append([kind, 0, None])
        _more(draw, log, writer, len(writer.parts) - 1)
    else:
        _other_part(draw, log, writer)


def _other_part(draw: st.DrawFn, log: Log, writer: Writer) -> None:
    kind = draw(st.sampled_from(["tool_call", "tool_call", "source", "file", "data", "own"]))
    index = len(writer.parts)
    arguments = data = name = call_id = None
    provider_executed = False
    if kind == "tool_call":
        arguments = draw(st.sampled_from(ARGUMENTS))
        # Some providers count their calls anew in each response.
        call_id = draw(st.sampled_from([f"call-{writer.id}-{index}", f"call_{index}"]))
        name = draw(st.sampled_from(["get_weather", None]))
        writer.calls.append(call_id)
        provider_executed = draw(st.booleans())
    elif kind == "source":
        data = draw(st.sampled_from(SOURCES))
    elif kind == "file":
        data = draw(st.sampled_from(FILES))
    else:
        data, name = {"x": 1}, "chart"
    writer.parts.append([kind, 0, arguments])
    log.put(
        PartEvent(
            response_id=writer.id,
            part=index,
            kind=kind,
            name=name,
            call_id=call_id,
            data=data,
            provider_executed=provider_executed,
        )
    )
    if arguments and draw(st.booleans()):
        _more(draw, log, writer, index)


def _more(draw: st.DrawFn, log: Log, writer: Writer, index: int) -> None:
    part = writer.parts[index]
    kind, length, arguments = part
    if kind == "tool_call":
        size = draw(st.sampled_from([3, 99]))
        text, part[2] = arguments[:size], arguments[size:]
    elif kind in ("text", "reasoning", "refusal"):
        text = draw(TEXTS)
    else:
        return
    if text:
        log.put(DeltaEvent(response_id=writer.id, part=index, kind=kind, offset=length, text=text))
        part[1] += len(text)


def _result(draw: st.DrawFn, log: Log, writer: Writer, call: str) -> None:
    """Tools answer what was asked in full."""
    for index, part in enumerate(writer.parts):
        while part[2] and not writer.ended:
            _more(draw, log, writer, index)
    key = call if call.startswith("call-") else f"{writer.id}/{call}"
    if key in log.results:
        log.put(log.results[key])  # told again: nothing new
        return
    error = draw(st.sampled_from([None, None, "it broke"]))
    output = None if error else draw(st.sampled_from(OUTPUTS))
    name: str | None = writer.id
    if call.startswith("call-"):  # nobody else's: the run is enough to find it
        lead = [each.id for each in log.writers if each.envelope and not each.ended]
        name = draw(st.sampled_from([name, None, *lead]))
    event = ToolResultEvent(
        call_id=call, response_id=name, run=writer.run, output=output, error=error
    )
    log.results[key] = event
    log.put(event)


def _end(draw: st.DrawFn, log: Log, writer: Writer) -> None:
    if writer.ended:
        return
    writer.ended = True
    state = draw(st.sampled_from(ENDS))
    if state == "complete":
        for index, part in enumerate(writer.parts):
            while part[2]:
                _more(draw, log, writer, index)
    log.put(
        EndEvent(
            response_id=writer.id,
            state=state,  # type: ignore[arg-type]
            finish_reason="stop" if state == "complete" else None,
            usage={"input_tokens": 3, "output_tokens": 2},
            error=None if state == "complete" else f"{state}!",
        )
    )


def loaded(text: str) -> Any:
    """The arguments of a call as a page has them."""
    if not text.strip():
        return {}
    try:
        return without(json.loads(text))
    except ValueError:
        return text


def without(value: Any) -> Any:
    """Without the keys that the clients refuse."""
    if isinstance(value, dict):
        return {
            k: without(v)
            for k, v in value.items()
            if k != "__proto__" and not (k == "constructor" and isinstance(v, dict))
        }
    return [without(v) for v in value] if isinstance(value, list) else value
