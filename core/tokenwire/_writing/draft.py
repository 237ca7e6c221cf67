"""What a producer has written of one response: the whole text, and what of it is still to go out.

The text is held once. What waits for the backend is merged, so that a backend that is down costs
no more memory than the text itself. Used on the I/O thread (or under the outbox's lock) only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from time import time_ns
from typing import Any

from tokenwire._clock import now_ms
from tokenwire._text import TextBuffer, joined, well_formed
from tokenwire.backend import Granularity
from tokenwire.events import (
    DeltaEvent,
    EndEvent,
    Event,
    Part,
    PartEvent,
    Response,
    StartEvent,
    ToolResult,
    ToolResultEvent,
)

__all__ = ["Draft", "PartSpec"]

_TARGET, _TOKEN = itemgetter(0), itemgetter(1)  # of what a producer wrote


class PartSpec:
    """Names a part before it has a number; numbers are given in the order of arrival."""

    __slots__ = ("call_id", "data", "index", "kind", "name", "provider_executed")

    def __init__(
        self,
        kind: str,
        *,
        name: str | None = None,
        call_id: str | None = None,
        data: Any = None,
        provider_executed: bool = False,
    ) -> None:
        self.kind = kind
        self.name = name
        self.call_id = call_id
        self.data = data
        self.provider_executed = provider_executed
        self.index: int | None = None

    @property
    def bare(self) -> bool:
        """Whether a delta says all there is to say of this part."""
        return (
            self.name is None
            and self.call_id is None
            and self.data is None
            and not self.provider_executed
        )


@dataclass(slots=True, eq=False)
class PartState:
    """A part: what has been handed to the backend of it, and what waits."""

    spec: PartSpec
    index: int
    sent: TextBuffer = field(default_factory=TextBuffer)
    waiting: TextBuffer | None = None
    half: str = ""  # of a surrogate pair: the first, whose other has not come


class Draft:
    """A response as its producer has it."""

    __slots__ = (
        "_channel",
        "_merge",
        "_parts",
        "_results",
        "_silent",
        "_waiting",
        "end",
        "first_token_at",
        "start",
        "tokens",
    )

    def __init__(self, start: StartEvent, channel: str, granularity: Granularity) -> None:
        self.start = start
        self.end: EndEvent | None = None
        self.tokens = 0
        self.first_token_at: int | None = None  # in milliseconds since 1970
        self._channel = channel
        self._merge = granularity == "response"
        self._parts: list[PartState] = []
        self._results: dict[str, ToolResult] = {}
        self._waiting: list[tuple[PartState, TextBuffer] | Event] = [start]
        self._silent = False

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._waiting) or self.end is not None

    @property
    def only_end(self) -> bool:
        """Whether nothing but the end is left to send."""
        return not self._waiting and self.end is not None

    def silence(self) -> None:
        """Send no more text: it cannot be delivered."""
        self._silent = True
        self._waiting.clear()

    def absorb(self, writes: list[tuple[object, str | None]]) -> int:
        """Take what the producer wrote: targets and their texts; return how many tokens."""
        before = self.tokens
        while writes:
            # Both steps are whole for other threads, which may append meanwhile.
            taken = writes.copy()
            del writes[: len(taken)]
            for target, group in groupby(taken, _TARGET):
                self._put(target, list(filter(None, map(_TOKEN, group))))
        if self.first_token_at is None and self.tokens:
            self.first_token_at = now_ms()
        return self.tokens - before

    def _put(self, target: object, written: list[str]) -> None:
        """Take what the producer wrote to one target, in a row; after the end, nothing."""
        if self.end is not None:
            return
        if isinstance(target, EndEvent):
            for part in self._parts:
                if part.half:
                    part.half = ""
                    self._write(part, ["\ufffd"])
            self.end = target
        elif isinstance(target, ToolResultEvent):
            result = ToolResult(
                call_id=target.call_id, name=target.name, output=target.output, error=target.error
            )
            if self._results.setdefault(target.call_id, result) is result and not self._silent:
                self._waiting.append(target)
        elif isinstance(target, str | PartSpec):
            if isinstance(target, str):
                if written:
                    self._write(self._last(well_formed(target)), written)
            elif target.index is not None or written or not target.bare:  # else: at its first text
                part = self._open(target) if target.index is None else self._parts[target.index]
                self._write(part, written)

    def _last(self, kind: str) -> PartState:
        """The last part, where it is of this kind and has no name; else a new one."""
        last = self._parts[-1] if self._parts else None
        if last is None or last.spec.kind != kind or not last.spec.bare:
            last = self._open(PartSpec(kind))
        return last

    def _open(self, spec: PartSpec) -> PartState:
        spec.index = len(self._parts)
        part = PartState(spec, spec.index)
        self._parts.append(part)
        if not spec.bare and not self._silent:
            self._waiting.append(
                PartEvent(
                    response_id=self.start.response_id,
                    part=part.index,
                    kind=spec.kind,
                    name=spec.name,
                    call_id=spec.call_id,
                    data=spec.data,
                    provider_executed=spec.provider_executed,
                )
            )
        return part

    def _write(self, part: PartState, tokens: list[str]) -> None:
        self.tokens += len(tokens)
        if self._silent:
            return
        # What is joined is a plain string; tokens may be of any class of strings.
        for token in ["".join(tokens)] if self._merge else map(str.__str__, tokens):
            text = token
            if part.half or not text.isascii():
                text, part.half = joined(part.half + text)
            if not text:
                continue
            if part.waiting is None or not self._merge:
                part.waiting = TextBuffer()
                self._waiting.append((part, part.waiting))
            part.waiting.append(text)

    def take_text(
        self, writes: list[tuple[object, str | None]], max_text: int | None
    ) -> DeltaEvent | None:
        """Do what `absorb` and `take` do, where that is one text, and a part's next one.

        None, and nothing taken, where it is more, or less, or not known at a glance.
        """
        if self._waiting or self.end is not None or self._silent or len(writes) != 1:
            return None
        target, text = writes[0]
        if type(text) is not str or not text or self.first_token_at is None:
            return None
        if not text.isascii():
            text, half = joined(text)
            if half:
                return None
        if target.__class__ is str:
            part = self._parts[-1]
            if part.spec.kind != target or not part.spec.bare:
                return None
        elif isinstance(target, PartSpec) and target.index is not None:
            part = self._parts[target.index]
        else:
            return None
        if part.half or (max_text is not None and len(text) > max_text):
            return None
        del writes[:1]  # another thread may have appended meanwhile
        self.tokens += 1
        sent = part.sent
        event = DeltaEvent(
            response_id=self.start.response_id,
            part=part.index,
            kind=part.spec.kind,
            offset=sent.length,
            text=text,
            ts=time_ns() // 1_000_000,  # as `now_ms`, without the call
        )
        sent.append(text)
        return event

    def take(self, *, with_end: bool, max_text: int | None, ts: int) -> list[Event]:
        """Hand over what waits, as events; the end only if `with_end`."""
        events: list[Event] = []
        for item in self._waiting:
            if isinstance(item, tuple):
                part, buffer = item
                events.extend(self._deltas(part, str(buffer), max_text, ts))
            else:
                events.append(item)
        self._waiting.clear()
        if with_end and self.end is not None:
            events.append(self.end)
        return events

    def _deltas(
        self, part: PartState, text: str, max_text: int | None, ts: int
    ) -> Iterator[DeltaEvent]:
        part.waiting = None
        step = max_text or len(text)
        for begin in range(0, len(text), step):
            piece = text[begin : begin + step]
            yield DeltaEvent(
                response_id=self.start.response_id,
                part=part.index,
                kind=part.spec.kind,
                offset=part.sent.length,
                text=piece,
                ts=ts,
            )
            part.sent.append(piece)

    def snapshot(self) -> Response:
        """Hand over everything, as one response; nothing but the end waits afterwards."""
        for part in self._parts:
            part.waiting = None
        for item in self._waiting:
            if isinstance(item, tuple):
                item[0].sent.append(str(item[1]))
        self._waiting.clear()
        return Response(
            id=self.start.response_id,
            channel=self._channel,
            run=self.start.run,
            metadata=self.start.metadata,
            started_at=self.start.ts,
            parts=tuple(
                Part(
                    kind=part.spec.kind,
                    text=str(part.sent),
                    name=part.spec.name,
                    call_id=part.spec.call_id,
                    data=part.spec.data,
                    provider_executed=part.spec.provider_executed,
                )
                for part in self._parts
            ),
            tool_results=tuple(self._results.values()),
        )
