"""The reducer, from events to responses, and the arithmetic of deltas that it rests on.

`fold` is pure. `Assembler` is the same reducer over a state that it owns, for those who fold
millions of events; `Transcript` folds a whole channel. Whoever takes deltas without folding them
decides by `overlap` what is new in one, and joins neighbours by `merge_deltas`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from tokenwire._text import TextBuffer
from tokenwire.errors import GapError
from tokenwire.events import (
    ENDED,
    DeltaEvent,
    EndEvent,
    Event,
    Part,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    State,
    ToolResult,
    ToolResultEvent,
)

__all__ = ["Assembler", "Transcript", "extent", "fold", "merge_deltas", "overlap"]


def overlap(have: int, offset: int, text: str) -> str | None:
    """Return what is new in a delta for a reader that has the first `have` code points of a part.

    :return: the new text, empty where there is none; None where the text between `have` and
        `offset` is missing.
    """
    if offset == have:
        return text
    return text[have - offset :] if offset < have else None


def merge_deltas(events: Iterable[Event]) -> list[Event]:
    """Join deltas that directly follow one another in the same part; leave other events alone.

    A joined delta has the cursor and the time of the last one in it.
    """
    merged: list[Event] = []
    row: list[DeltaEvent] = []  # deltas to join
    end = 0

    def flush() -> None:
        if len(row) > 1:
            text = "".join([delta.text for delta in row])
            merged.append(replace(row[0], text=text, cursor=row[-1].cursor, ts=row[-1].ts))
        else:
            merged.extend(row)
        row.clear()

    for event in events:
        if not isinstance(event, DeltaEvent):
            flush()
            merged.append(event)
            continue
        if row and not (
            event.offset == end
            and event.part == row[0].part
            and event.response_id == row[0].response_id
        ):
            flush()
        row.append(event)
        end = event.offset + len(event.text)
    flush()
    return merged


def fold(state: Response | None, event: Event) -> Response | None:
    """Return the response after `event`; the same object where the event changes nothing.

    Deltas are addressed by (response, part, offset): a repeated one changes nothing, one that
    overlaps adds what is new, one that would leave a hole raises. A response that has ended stays
    as it ended, but for the results of its tool calls.

    :param state: the response so far, or None before its first event.
    :param event: any event; those of other responses change nothing.
    :raises GapError: when something before this event is missing.
    """
    response_id = event.response_id
    if response_id is None or (state is not None and state.id != response_id):
        return state
    assembler = Assembler(response_id, state)
    return assembler.response if assembler.apply(event) else state


def extent(response: Response) -> tuple[int, int]:
    """How much of a response there is: parts, then code points. Grows as the response does."""
    return len(response.parts), sum(len(part.text) for part in response.parts)


class _GrowingPart:
    """A part to which text is added.

    :ivar grown: whether text was added since it was last frozen.
    """

    __slots__ = ("_part", "grown", "text")

    def __init__(self, part: Part) -> None:
        self._part = part
        self.text = TextBuffer(part.text)
        self.grown = False

    def freeze(self) -> Part:
        if self.grown:
            self._part, self.grown = replace(self._part, text=str(self.text)), False
        return self._part


class Assembler:
    """Folds the events of one response into a state of its own.

    :ivar id: the response's id.
    :ivar state: its state so far; None before its first event.
    :ivar length: code points in all its parts together.
    """

    __slots__ = ("_frozen", "_head", "_parts", "_results", "id", "length", "state")

    def __init__(self, response_id: str, response: Response | None = None) -> None:
        self.id = response_id
        self.state: State | None = None
        self.length = 0
        self._head: dict[str, Any] = {}
        self._parts: list[_GrowingPart] = []
        self._results: dict[str, ToolResult] = {}
        self._frozen: Response | None = None
        if response is not None:
            self._load(response)

    @property
    def ended(self) -> bool:
        """Whether the response has ended."""
        return self.state in ENDED

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return len(self._parts)

    def part_length(self, part: int) -> int:
        """Code points in part number `part`; 0 where there is none yet."""
        return self._parts[part].text.length if part < len(self._parts) else 0

    @property
    def response(self) -> Response:
        """The response so far.

        :raises GapError: before its first event.
        """
        if self._frozen is None:
            if self.state is None:
                raise self._gap("has not started")
            self._frozen = Response(
                id=self.id,
                state=self.state,
                parts=tuple(part.freeze() for part in self._parts),
                tool_results=tuple(self._results.values()),
                **self._head,
            )
        return self._frozen

    def apply(self, event: Event, *, channel: str = "") -> bool:
        """Fold one event of this response in; say whether it changed anything.

        :param channel: the channel's name, taken from a response's start on.
        :raises GapError: when something before this event is missing; nothing has changed then.
        """
        if isinstance(event, DeltaEvent):
            changed = self._delta(event)
        elif isinstance(event, PartEvent):
            changed = self._part(event)
        elif isinstance(event, StartEvent):
            changed = self._start(event, channel)
        elif isinstance(event, SnapshotEvent):
            changed = self._snapshot(event.response)
        elif isinstance(event, EndEvent):
            changed = self._end(event)
        elif isinstance(event, ToolResultEvent):
            changed = self._tool_result(event)
        else:
            changed = False
        if changed:
            self._frozen = None
        return changed

    def check(self, events: Iterable[Event]) -> None:
        """Say whether `events`, folded one after the other, would fit; change nothing.

        :raises GapError: where one would not.
        """
        trial: dict[int, int] = {}
        parts, state = len(self._parts), self.state
        for event in events:
            if isinstance(event, SnapshotEvent):
                lengths = [len(part.text) for part in event.response.parts]
                have = sum(trial.get(part, self.part_length(part)) for part in range(parts))
                ahead = (len(lengths), sum(lengths)) > (parts, have)
                if state is None or event.response.ended or ahead:  # else it is passed over
                    trial, parts = dict(enumerate(lengths)), len(lengths)
                    state = event.response.state
            elif isinstance(event, StartEvent):
                state = state or "streaming"
            elif isinstance(event, PartEvent | DeltaEvent | EndEvent) and state is None:
                raise self._gap("has not started")
            elif isinstance(event, PartEvent | DeltaEvent):
                have = trial.get(event.part, self.part_length(event.part))
                text: str | None = ""
                if isinstance(event, DeltaEvent):
                    text = overlap(have, event.offset, event.text)
                if event.part > parts or text is None:
                    raise self._gap(f"lacks what precedes {event.type} in part {event.part}")
                parts = max(parts, event.part + 1)
                trial[event.part] = have + len(text)

    def _gap(self, problem: str) -> GapError:
        return GapError(f"response {self.id!r} {problem}", response_id=self.id)

    def _load(self, response: Response) -> None:
        self.state = response.state
        self._head = {name: getattr(response, name) for name in _HEAD}
        self._parts = [_GrowingPart(part) for part in response.parts]
        self._results = {result.call_id: result for result in response.tool_results}
        self.length = sum(part.text.length for part in self._parts)
        self._frozen = response

    def _start(self, event: StartEvent, channel: str) -> bool:
        if self.state is not None:
            return False
        self.state = "streaming"
        self._head = {
            "channel": event.channel or channel,
            "run": event.run,
            "metadata": event.metadata,
            "started_at": event.ts,
        }
        return True

    def _accepts(self, part: int) -> bool:
        """Check that part number `part` is there or is the next; False once the response ended."""
        if self.state is None:
            raise self._gap("has not started")
        if self.ended:
            return False
        if part > len(self._parts):
            raise self._gap(f"has {len(self._parts)} parts, part {part} came")
        return True

    def _part(self, event: PartEvent) -> bool:
        if not self._accepts(event.part) or event.part < len(self._parts):
            return False
        part = Part(
            kind=event.kind,
            name=event.name,
            call_id=event.call_id,
            data=event.data,
            provider_executed=event.provider_executed,
        )
        self._parts.append(_GrowingPart(part))
        return True

    def _delta(self, event: DeltaEvent) -> bool:
        number, parts = event.part, self._parts
        # The usual delta takes the shortest way: nothing is called for it.
        usual = self.state == "streaming" and number < len(parts)
        if not usual and not self._accepts(number):
            return False
        new = number == len(parts)
        have = 0 if new else parts[number].text.length
        text = event.text if event.offset == have else overlap(have, event.offset, event.text)
        if text is None:
            raise self._gap(f"has {have} code points of part {number}, text at {event.offset} came")
        if new:
            parts.append(_GrowingPart(Part(kind=event.kind)))
        elif not text:
            return False
        part = parts[number]
        part.text.append(text)
        part.grown = True
        self.length += len(text)
        return True

    def _snapshot(self, response: Response) -> bool:
        """Take `response` if it is ahead: both are prefixes of what one producer wrote."""
        if self.state is not None:
            ahead = (response.ended, *extent(response))
            here = (self.ended, len(self._parts), self.length)
            if ahead <= here:
                new = [r for r in response.tool_results if r.call_id not in self._results]
                self._results.update((result.call_id, result) for result in new)
                return bool(new)
        results = self._results
        self._load(response)
        self._results = {**results, **self._results}
        return True

    def _end(self, event: EndEvent) -> bool:
        if self.state is None:
            raise self._gap("has not started")
        if self.ended:
            return False
        self.state = event.state
        self._head["finish_reason"] = event.finish_reason
        self._head["usage"] = event.usage
        self._head["error"] = event.error
        self._head["ended_at"] = event.ts
        return True

    def _tool_result(self, event: ToolResultEvent) -> bool:
        if self.state is None or event.call_id in self._results:
            return False
        self._results[event.call_id] = ToolResult(
            call_id=event.call_id, name=event.name, output=event.output, error=event.error
        )
        return True


_HEAD = ("channel", "run", "finish_reason", "usage", "error", "metadata", "started_at", "ended_at")


class Transcript:
    """Folds the events of a channel: its responses, in the order in which they were first seen.

    >>> from tokenwire.events import StartEvent, DeltaEvent
    >>> transcript = Transcript()
    >>> _ = transcript.apply(StartEvent(response_id="r1"))
    >>> response = transcript.apply(
    ...     DeltaEvent(response_id="r1", part=0, kind="text", offset=0, text="Hello")
    ... )
    >>> response.text
    'Hello'
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._assemblers: dict[str, Assembler] = {}
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> Response | None:
        """Fold `event` in; return its response so far, None where it has none.

        :raises GapError: when something before this event is missing.
        """
        response_id = event.response_id
        if response_id is None:
            return None
        assembler = self._assemblers.get(response_id)
        if assembler is None:
            assembler = Assembler(response_id)
            assembler.apply(event)
            if assembler.state is None:  # a cancel or tool result of a response not seen
                return None
            self._assemblers[response_id] = assembler
        else:
            assembler.apply(event)
        return assembler.response

    def __getitem__(self, response_id: str) -> Response:
        return self._assemblers[response_id].response

    def __contains__(self, response_id: object) -> bool:
        return response_id in self._assemblers

    def __iter__(self) -> Iterator[Response]:
        return (assembler.response for assembler in self._assemblers.values())

    def __len__(self) -> int:
        return len(self._assemblers)
