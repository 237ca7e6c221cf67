"""`RunEncoder`: one run of a channel, told to one client that starts with nothing."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from tokenwire.encoding import Encoder, Frame
from tokenwire.events import (
    DataEvent,
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
from tokenwire.response import overlap
from tokenwire_adapters._web.ui.json import is_json
from tokenwire_adapters._web.ui.state import Piece, Told

__all__ = ["RunEncoder"]

_CANDIDATES = 16


class RunEncoder(Encoder):
    """Tells one run as one message of a protocol, whatever the events come as.

    It compares what an event says with what its client was told, and tells the difference: a
    snapshot in place of deltas, a repeated delta or a tool result that comes late all end in the
    same message. Events of other runs are passed over.

    A run is over when the response that stands for it has ended (see `is_envelope`); a run without
    one, when nothing of it streams and its last response did not ask for tools.

    :param run: the run to tell; by default the first one that is seen streaming.
    :param enveloped: a response is known to stand for the run.
    :param message_id: what the message is called; by default, its run.
    :ivar finished: all was told; the stream may be closed.
    """

    whole_run = True

    def __init__(
        self, *, run: str | None = None, enveloped: bool = False, message_id: str | None = None
    ) -> None:
        self.finished = False
        self._message_id = message_id
        self._enveloped = enveloped
        self._run = run
        self._runs = {run}
        self._told: dict[str, Told] = {}
        self._last: Told | None = None  # the one that ended last
        self._began = False
        # Results that came before what they answer; the call is there when its response has ended.
        self._early: dict[str, ToolResult] = {}
        self._candidates: OrderedDict[str, list[Event]] = OrderedDict()
        self._primed: Sequence[Event] = ()
        self._out: list[bytes] = []

    # -- what a protocol says

    @abstractmethod
    def _begin_run(self, run: str) -> None:
        """Begin the message."""

    @abstractmethod
    def _grow(self, told: Told, piece: Piece, text: str) -> None:
        """Tell more text of a part (perhaps its first)."""

    @abstractmethod
    def _open(self, told: Told, piece: Piece) -> None:
        """Tell of a part that has just begun; its text, if any, follows."""

    @abstractmethod
    def _complete(self, told: Told, piece: Piece, *, cut: bool = False) -> None:
        """Tell that a part is all there; `cut`: it ended before it was."""

    @abstractmethod
    def _answer(self, told: Told, piece: Piece, result: ToolResult) -> None:
        """Tell what a tool answered."""

    @abstractmethod
    def _note(self, event: DataEvent) -> None:
        """Tell of a data event."""

    @abstractmethod
    def _response_ended(self, told: Told) -> None:
        """A response has ended; its parts were completed."""

    @abstractmethod
    def _end_run(self, told: Told | None) -> None:
        """End the message. `told`: the response that says how; None: nobody knows."""

    def _say(self, data: bytes) -> None:
        self._out.append(data)

    # -- the encoder

    def follow(
        self,
        run: str,
        *,
        enveloped: bool,
        after: Iterable[str] = (),
        message_id: str | None = None,
    ) -> None:
        """Tell this run, of which nothing was told yet, as going on with those in `after`."""
        self._run = run
        self._message_id = message_id or self._message_id
        self._enveloped = enveloped
        self._runs = {run, *after}

    def prime(self, events: Sequence[Event]) -> None:
        """Give what happened before the first live event; `begin` tells it, as one."""
        self._primed = events

    def begin(self) -> Iterable[Frame]:
        events, self._primed = self._primed, ()
        for event in events:
            self._take(event)
        self._hydrated()
        self._check_over()
        return self._flush()

    def encode(self, event: Event) -> Iterable[Frame]:
        if self.finished:
            return ()
        if isinstance(event, DeltaEvent):  # most events by far
            told = self._told.get(event.response_id)
            if told is not None:
                self._delta(told, event)
            return self._flush() if self._out else ()
        self._take(event)
        self._check_over(event)
        return self._flush()

    def end(self) -> Iterable[Frame]:
        if self._run is None and self._candidates:
            # The stream has only told of what is over: then that is the message.
            self._focus(next(reversed(self._candidates)))
        if not self.finished and self._run is not None and self._began:
            streaming = any(not told.ended for told in self._told.values())
            self._finish(None if streaming else self._spokesman())
        return self._flush()

    def _flush(self) -> list[Frame]:
        out, self._out = self._out, []
        return [Frame(data) for data in out]

    def _hydrated(self) -> None:
        """What was primed has been taken."""

    # -- which run

    def _take(self, event: Event) -> None:
        if self._run is None:
            self._choose(event)
        else:
            self._apply(event)

    def _choose(self, event: Event) -> None:
        """Look for a run that streams; keep what is known of the runs that may."""
        run = self._run_of(event)
        if run is None:
            return
        known = self._candidates.setdefault(run, [])
        known.append(event)
        self._candidates.move_to_end(run)
        if len(self._candidates) > _CANDIDATES:
            self._candidates.popitem(last=False)
        if isinstance(event, StartEvent) or (
            isinstance(event, SnapshotEvent) and not event.response.ended
        ):
            self._focus(run)

    def _run_of(self, event: Event) -> str | None:
        if isinstance(event, StartEvent):
            return event.run or event.response_id
        if isinstance(event, SnapshotEvent):
            return event.response.run or event.response.id
        if isinstance(event, ToolResultEvent | DataEvent):
            if event.run in self._candidates:
                return event.run
            for run, events in self._candidates.items():
                if any(known.response_id == event.response_id for known in events):
                    return run
        return None

    def _focus(self, run: str) -> None:
        self._run = run
        self._runs = {run}
        events = self._candidates.pop(run, [])
        self._candidates.clear()
        for event in events:
            self._apply(event)

    # -- folding

    def _apply(self, event: Event) -> None:
        if isinstance(event, StartEvent):
            self._start(event.response_id, event.run, event.metadata, event.channel)
        elif isinstance(event, SnapshotEvent):
            self._snapshot(event.response)
        elif isinstance(event, DataEvent):
            if event.run in self._runs or event.response_id in self._told:
                self._begin()
                self._note(event)
        elif isinstance(event, ToolResultEvent):
            self._tool_result(event)
        elif isinstance(event, DeltaEvent | PartEvent | EndEvent):
            told = self._told.get(event.response_id)
            if told is None or told.ended:
                return
            if isinstance(event, DeltaEvent):
                self._delta(told, event)
            elif isinstance(event, PartEvent):
                self._part(told, event)
            else:
                self._end_response(told, event.state, event.finish_reason, event.usage, event.error)

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            assert self._run is not None
            self._begin_run(self._run)

    def _start(
        self, response_id: str, run: str | None, metadata: dict[str, Any], channel: str
    ) -> Told | None:
        """Begin to tell of a response, where it is of our run."""
        told = self._told.get(response_id)
        if told is None and (run or response_id) in self._runs:
            told = self._told[response_id] = Told(response_id, run, metadata, channel)
            self._begin()
        return told

    def _part(self, told: Told, event: PartEvent) -> Piece | None:
        if event.part == len(told.pieces):
            return self._piece(told, event.kind, event.name, event.call_id, event.data)
        return None

    def _delta(self, told: Told, event: DeltaEvent) -> None:
        if told.ended or event.part > len(told.pieces):
            return
        if event.part == len(told.pieces):
            if event.offset:
                return
            piece = self._piece(told, event.kind, None, None, None)
        else:
            piece = told.pieces[event.part]
        text = overlap(piece.length, event.offset, event.text)
        if text:  # None is a hole: the snapshot that heals it is still to come
            self._more(told, piece, text)

    def _piece(
        self, told: Told, kind: str, name: str | None, call_id: str | None, data: Any
    ) -> Piece:
        piece = Piece(len(told.pieces), kind, name, call_id, data)
        told.pieces.append(piece)
        if kind == "tool_call":
            piece.call_id = call_id or f"{told.id}:{piece.index}"
            told.call_ids.setdefault(piece.call_id, piece)
        self._open(told, piece)
        return piece

    def _more(self, told: Told, piece: Piece, text: str) -> None:
        piece.length += len(text)
        piece.done = False  # a producer may come back to a part that seemed to be done
        if piece.text is not None:
            piece.text.append(text)
        self._grow(told, piece, text)

    def _snapshot(self, response: Response) -> None:
        told = self._start(response.id, response.run, response.metadata, response.channel)
        if told is None:
            return
        if not told.ended:
            for index, part in enumerate(response.parts):
                self._catch_up(told, index, part)
        for result in response.tool_results:
            self._result(told, result)
        if response.ended and not told.ended:
            self._end_response(
                told, response.state, response.finish_reason, response.usage, response.error
            )

    def _catch_up(self, told: Told, index: int, part: Part) -> None:
        if index == len(told.pieces):
            piece = self._piece(told, part.kind, part.name, part.call_id, part.data)
        else:
            piece = told.pieces[index]
        text = overlap(piece.length, 0, part.text)
        if text:
            self._more(told, piece, text)

    def _tool_result(self, event: ToolResultEvent) -> None:
        result = ToolResult(
            call_id=event.call_id, name=event.name, output=event.output, error=event.error
        )
        if event.response_id is not None:
            told = self._told.get(event.response_id)
            if told is None:
                return
        else:
            if event.run is not None and event.run not in self._runs:
                return
            told = self._owner(event.call_id)
            if told is None:
                # Without a run anything may be meant: only calls that are known count.
                if event.run is not None:
                    self._early.setdefault(event.call_id, result)
                return
        self._result(told, result)

    def _owner(self, call_id: str) -> Told | None:
        """The response that made a call: the last one whose call is not answered yet."""
        found = None
        for told in self._told.values():
            if call_id in told.call_ids and (found is None or call_id not in told.answered):
                found = told
        return found

    def _result(self, told: Told, result: ToolResult) -> None:
        if result.call_id in told.answered:
            return
        piece = told.call_ids.get(result.call_id)
        if piece is None:
            owner = self._owner(result.call_id)
            if owner is None:
                self._early.setdefault(result.call_id, result)
            elif owner is not told:
                self._result(owner, result)
            return
        if not (piece.done or told.ended or is_json(piece.whole_text)):
            self._early.setdefault(result.call_id, result)  # the rest of the call is under way
            return
        told.answered.add(result.call_id)
        if not piece.done:
            self._complete(told, piece)
            piece.done = True
        piece.result = result
        self._answer(told, piece, result)

    def _end_response(
        self,
        told: Told,
        state: State,
        finish_reason: str | None,
        usage: dict[str, Any] | None,
        error: str | None,
    ) -> None:
        told.finish_reason, told.usage, told.error = finish_reason, usage, error
        self._settle(told, cut=state != "complete")
        for call_id in told.call_ids.keys() & self._early.keys():
            self._result(told, self._early.pop(call_id))
        told.state = state
        if not told.envelope:
            self._last = told
        self._response_ended(told)

    def _settle(self, told: Told, *, cut: bool) -> None:
        for piece in told.pieces:
            if not piece.done:
                self._complete(told, piece, cut=cut)
                piece.done = True

    # -- the end

    def _check_over(self, event: Event | None = None) -> None:
        if self.finished or not self._told or self._run is None:
            return
        if any(not told.ended for told in self._told.values()):
            return
        lead = self._told.get(self._run)
        if lead is not None and lead.envelope:
            self._finish(lead)
            return
        last = self._last
        if last is None or self._enveloped:
            return
        # What began after this run, and is not of it, says that nothing more comes of it.
        passed = isinstance(event, StartEvent) and event.response_id not in self._told
        if passed or not last.awaits:
            self._finish(last)

    def _spokesman(self) -> Told | None:
        lead = self._told.get(self._run or "")
        return lead if lead is not None and lead.envelope else self._last

    def _finish(self, told: Told | None) -> None:
        for each in self._told.values():
            if not each.ended:
                self._settle(each, cut=True)
        self.finished = True
        self._end_run(told)
