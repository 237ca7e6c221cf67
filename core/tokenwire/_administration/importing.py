"""Imports the lines of an export."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from tokenwire._administration.lines import FORMAT, EventLine, HeaderLine, ResponseLine, decode
from tokenwire._clock import Backoff, now_ms
from tokenwire._ids import check_name, new_id
from tokenwire._runtime import Runtime
from tokenwire.backend import Entry, Outcome
from tokenwire.errors import (
    BackendMisconfigured,
    BackendUnavailable,
    DecodeError,
    Fenced,
    InvalidName,
)
from tokenwire.events import EndEvent, Event, InputEvent, Response, SnapshotEvent, StartEvent

__all__ = ["Import", "ImportReport"]

_MAX_LINES, _MAX_SIZE = 64, 2**20  # published at a time
_PATIENCE = 30.0  # seconds that the backend may be away


class ImportReport(msgspec.Struct, kw_only=True):
    """What became of the lines of an import.

    :ivar responses: responses that are in their channels now.
    :ivar events: other events that are.
    :ivar present: responses that were there already, and were left alone.
    :ivar unknown: lines of a type that this version does not know.
    :ivar refused: what the backend would not take, with its reason, by ``channel/response``.
    """

    responses: int = 0
    events: int = 0
    present: int = 0
    unknown: int = 0
    refused: dict[str, str] = {}


class Import:
    """Publishes lines of an export, some at a time, and counts."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._number = 0  # of the line
        self._header: HeaderLine | None = None
        self._lines: list[ResponseLine | EventLine] = []
        self._size = 0
        self.report = ImportReport()

    def add(self, raw: bytes | str) -> bool:
        """Take the next line; say whether it is time to publish.

        :raises DecodeError: when this is no export, or one of a later format; the message has the
            number of the line.
        """
        self._number += 1
        try:
            line = self._decode(raw)
        except (DecodeError, InvalidName) as error:
            raise DecodeError(f"line {self._number}: {error}") from error
        if line is not None:
            self._lines.append(line)
            self._size += len(raw)
        return len(self._lines) >= _MAX_LINES or self._size >= _MAX_SIZE

    async def publish(self) -> None:
        """Publish the lines that were added, in order.

        :raises BackendUnavailable: when the backend stays away.
        """
        self._runtime.producer.check_open()
        lines, self._lines, self._size = self._lines, [], 0
        outcomes = await self._publish([self._entry(line) for line in lines])
        for line, outcome in zip(lines, outcomes, strict=True):
            self._count(line, outcome)

    def _decode(self, raw: bytes | str) -> ResponseLine | EventLine | None:
        if not raw.strip():
            return None
        line = decode(raw)
        if isinstance(line, HeaderLine):
            self._check_header(line)
            return None
        if self._header is None:
            raise DecodeError("no export of tokenwire: the first line does not say so")
        if line is None:
            self.report.unknown += 1
            return None
        check_name(line.channel, "channel")
        if isinstance(line, ResponseLine):
            check_name(line.response.id, "response id")
        return line

    def _check_header(self, header: HeaderLine) -> None:
        if header.format > FORMAT:
            raise DecodeError(
                f"tokenwire {header.version} wrote it in format {header.format}; this version"
                f" reads up to {FORMAT}: upgrade tokenwire"
            )
        self._header = header

    def _entry(self, line: ResponseLine | EventLine) -> Entry:
        if isinstance(line, EventLine):
            event = line.event
            # The key of an input is the sink's own for it, so that one is not there twice.
            if isinstance(event, InputEvent) and event.id:
                key = f"input:{event.id}"
            else:
                key = f"import:{event.cursor or new_id()}"
            return Entry(channel=line.channel, events=(replace(event, cursor=None),), key=key)
        return Entry(
            channel=line.channel,
            events=_events(line.response, line.channel),
            response_id=line.response.id,
            fence=new_id("import-"),
        )

    async def _publish(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Publish entries, again where it is not known what became of them."""
        outcomes: dict[int, Outcome] = {}
        deadline, backoff = time.monotonic() + _PATIENCE, Backoff(0.05, 2.0)
        waiting = list(range(len(entries)))
        while waiting:
            problem: BackendUnavailable | None = None
            try:
                results = await self._runtime.backend.publish([entries[n] for n in waiting])
            except BackendUnavailable as error:
                problem = error
            else:
                for number, outcome in zip(waiting, results, strict=True):
                    if isinstance(outcome.error, BackendUnavailable):
                        problem = outcome.error
                    else:
                        outcomes[number] = outcome
            waiting = [number for number in waiting if number not in outcomes]
            if problem is not None:
                pause = backoff.next()
                late = time.monotonic() + pause > deadline
                if late or isinstance(problem, BackendMisconfigured):
                    raise problem
                await asyncio.sleep(pause)
        return [outcomes[number] for number in range(len(entries))]

    def _count(self, line: ResponseLine | EventLine, outcome: Outcome) -> None:
        report = self.report
        if isinstance(outcome.error, Fenced):
            report.present += 1
        elif outcome.error is not None:
            name = line.response.id if isinstance(line, ResponseLine) else line.event.type
            report.refused[f"{line.channel}/{name}"] = str(outcome.error)
        elif isinstance(line, ResponseLine):
            report.responses += 1
        else:
            report.events += 1


def _events(response: Response, channel: str) -> tuple[Event, ...]:
    """The events that make a response in one entry, as its producer would recover it."""
    state, error = response.state, response.error
    if not response.ended:
        state, error = "abandoned", "it was streaming when it was exported"
    start = StartEvent(
        response_id=response.id,
        run=response.run,
        metadata=response.metadata,
        ts=response.started_at,
    )
    so_far = replace(
        response,
        channel=channel,
        state="streaming",
        finish_reason=None,
        usage=None,
        error=None,
        ended_at=None,
    )
    end = EndEvent(
        response_id=response.id,
        state=state,
        finish_reason=response.finish_reason,
        usage=response.usage,
        error=error,
        ts=response.ended_at,
    )
    return start, SnapshotEvent(response=so_far, ts=response.ended_at or now_ms()), end
