"""`RunEncoder`: one run of a channel, as one message of a user interface's protocol."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from msgspec.structs import replace

from tokenwire import approvals
from tokenwire.approvals import Approval, ApprovalRequest
from tokenwire.encoding import Encoder, Frame, StreamPlan
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
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.ui.answers import folded, known_part
from tokenwire_adapters._web.ui.errors import OnError, safe_error, shown_error
from tokenwire_adapters._web.ui.json import is_json
from tokenwire_adapters._web.ui.runs import Run, join_run
from tokenwire_adapters._web.ui.selection import RunSelector
from tokenwire_adapters._web.ui.state import MAY_WAIT, PartState, ResponseState

__all__ = ["RunEncoder"]


class RunEncoder(Encoder):
    """Encodes one run as one message of a protocol, in whatever form its events come.

    A protocol subclasses it and says how a message, its parts, its tool results and its end are
    written, each with `emit`. The base class compares each event with what its client has been
    sent and calls for the difference: a snapshot in place of deltas, a repeated delta or a tool
    result that comes late all lead to the same message. Events of other runs are passed over.

    A run is over when its envelope has ended (see `tokenwire_adapters.ui.ENVELOPE`); a run without
    one, when nothing of it streams and its last response did not call tools.

    :param run: the run to encode; by default the first one that is seen streaming.
    :param enveloped: whether the run is known to have an envelope.
    :param message_id: the id of the message; by default, that of the run.
    :ivar run: the run, once it is known; `message_id` likewise.
    :ivar responses: the responses of the message so far, by id.
    :ivar last_ended: the response that ended last, the envelope aside.
    :ivar pauses: whether a client's stream ends where the run waits for approvals, as its protocol
        has it; the answer begins the next stream.
    :ivar interrupted: what the run waits for, where its stream ended for that.
    :ivar replaying: whether what is encoded happened before the client joined.
    :ivar on_error: from the text of an error to what the client is shown of it; by default without
        paths and host names.
    :ivar started: whether the message has begun; `finished`: whether all of it has been encoded.
    """

    pauses: ClassVar[bool] = False

    def __init__(
        self, *, run: str | None = None, enveloped: bool = False, message_id: str | None = None
    ) -> None:
        self.run = run
        self.message_id = message_id
        self.responses: dict[str, ResponseState] = {}
        self.last_ended: ResponseState | None = None
        self.interrupted: list[ApprovalRequest] = []
        self.started = False
        self._skipped: Sequence[Event] = ()
        self.replaying = False
        self.on_error: OnError = safe_error
        self._enveloped = enveloped
        self._runs = {run}
        # Results that came before what they answer; the call is there when its response has ended.
        self._early_results: dict[str, ToolResult] = {}
        self._selector = RunSelector()
        self._past: Sequence[Event] = ()
        self._frames: list[Frame] = []

    # -- what a protocol writes

    @abstractmethod
    def begin_message(self, run: str) -> None:
        """Begin the message."""

    @abstractmethod
    def open_part(self, response: ResponseState, part: PartState) -> None:
        """Announce a part that has just begun; its text, if any, follows."""

    @abstractmethod
    def add_text(self, response: ResponseState, part: PartState, text: str) -> None:
        """Add text to a part (perhaps its first)."""

    @abstractmethod
    def close_part(self, response: ResponseState, part: PartState, *, cut: bool = False) -> None:
        """End a part; `cut`: its response ended before the part was complete."""

    @abstractmethod
    def add_result(self, response: ResponseState, part: PartState, result: ToolResult) -> None:
        """Add what a tool returned to the part that called it."""

    @abstractmethod
    def add_data(self, event: DataEvent) -> None:
        """Add a data event."""

    def ask_approval(self, request: ApprovalRequest) -> None:
        """Show that the run asks for approval of a tool call. By default, nothing is written."""

    def add_decision(self, approval: Approval) -> None:
        """Show what was decided on a request. By default, nothing is written."""

    def withdraw_approval(self, request: ApprovalRequest) -> None:
        """Show that nobody can approve this any more: its run has ended."""

    def continue_message(self, run: str) -> None:
        """Begin a stream for a client that has the message up to here (see `skip`)."""
        self.begin_message(run)

    def end_response(self, response: ResponseState) -> None:
        """End a response; its parts are closed. By default, nothing is written."""

    @abstractmethod
    def end_message(self, response: ResponseState | None) -> None:
        """End the message. `response`: the one that says how; None: it is not known."""

    def emit(self, data: bytes, *, event: str | None = None) -> None:
        """Send a frame to the client: its data, and the name of the server-sent event."""
        self._frames.append(Frame(data, event=event))

    def record_result(self, response: ResponseState, result: ToolResult) -> None:
        """Take a result that is a part of `response`, as some providers send theirs."""
        self._take_result(response, result)

    # -- the encoder

    async def open(self, sink: Sink, plan: StreamPlan) -> ChannelReader | None:
        """Join the run under way at its beginning: clients of such protocols know no cursors."""
        if plan.response_id is not None:
            return await super().open(sink, plan)
        return await self.join(sink, plan.channel, run=self.run, wait=plan.wait)

    async def join(
        self,
        sink: Sink,
        channel: str,
        *,
        run: str | None = None,
        wait: bool = True,
        acting_on: Sequence[Approval] = (),
        earlier: bool = True,
    ) -> ChannelReader | None:
        """Open a channel to encode one run from its beginning.

        What has happened of the run so far is encoded by `begin`. Where no run is under way, the
        next one that begins is encoded.

        :param run: which; by default the one that is under way.
        :param wait: whether to wait for a run where there is none; else None is returned.
        :param acting_on: decisions that the client was asked for, and has given: it has what the
            run said before them, and is sent what comes after.
        :param earlier: whether to encode the runs, too, whose message this one continues.
        :raises InvalidName, BackendUnavailable: as `Sink.reader` and `ChannelReader.aopen` do.
        """
        joined = await join_run(sink, channel, run=run, wait=wait, earlier=earlier)
        if joined is None:
            return None
        if joined.run is not None:
            self.run = joined.run.id
            self.message_id = joined.run.message_id or self.message_id
            self._enveloped = joined.run.envelope is not None
            self._runs = {self.run, *joined.earlier}
            events: Sequence[Event] = joined.events
            if acting_on:
                known, events = known_part(folded(joined.events), acting_on)
                self.skip(known)
            self.prime(events)
        return joined.reader

    def prime(self, events: Sequence[Event]) -> None:
        """Give what happened before the first live event; `begin` encodes it, as one."""
        self._past = events

    def skip(self, events: Sequence[Event], *, runs: Iterable[str] = ()) -> None:
        """Give what the client has already; `begin` encodes what is primed as its continuation.

        :param runs: the ids of other runs that these are of.
        """
        self._skipped = events
        self._runs.update(runs)

    def go_on_from(self, run: Run, decisions: Sequence[Approval]) -> None:
        """Go on for a client that has what another run said before it asked for these decisions."""
        known, whole = known_part(run.responses, decisions)
        self.skip(known, runs=[run.id])
        self.prime([*whole, *self._past])

    def _skip(self) -> None:
        for event in self._skipped:
            self._take(event)
        for response in self.responses.values():  # the client's stream has ended here
            if not response.ended:
                self._close_parts(response, cut=False)
        self._frames.clear()
        self._skipped = ()
        assert self.run is not None
        self.continue_message(self.run)

    def begin(self) -> Iterable[Frame]:
        if self._skipped:
            self._skip()
        events, self._past = self._past, ()
        self.replaying = True
        for event in events:
            self._take(event)
        self.replaying = False
        self.end_past()
        self._check_over()
        return self._flush()

    def end_past(self) -> None:
        """End what has happened before the client joined. By default, nothing is written."""

    def encode(self, event: Event) -> Iterable[Frame]:
        if self.finished:
            return ()
        if isinstance(event, DeltaEvent):  # most events by far
            response = self.responses.get(event.response_id)
            if response is not None:
                self._delta(response, event)
            return self._flush() if self._frames else ()
        self._take(event)
        self._check_over(event)
        return self._flush()

    def end(self) -> Iterable[Frame]:
        latest = self._selector.latest
        if self.run is None and latest is not None:
            # Everything in the stream is over: then the last of it is the message.
            self._select(latest)
        if not self.finished and self.run is not None and self.started:
            streaming = any(not response.ended for response in self.responses.values())
            self._finish(None if streaming else self._lead())
        return self._flush()

    def _flush(self) -> list[Frame]:
        frames, self._frames = self._frames, []
        return frames

    def _take(self, event: Event) -> None:
        if self.run is not None:
            self._apply(event)
            return
        run = self._selector.offer(event)
        if run is not None:
            self._select(run)

    def _select(self, run: str) -> None:
        self.run = run
        self._runs = {run}
        for event in self._selector.take(run):
            self._apply(event)

    # -- from events to differences

    def _apply(self, event: Event) -> None:
        if isinstance(event, StartEvent):
            response = self._start(event.response_id, event.run, event.metadata, event.channel)
            if response is not None:
                response.started_at = event.ts or 0
        elif isinstance(event, SnapshotEvent):
            self._snapshot(event.response)
        elif isinstance(event, DataEvent):
            if event.run in self._runs or event.response_id in self.responses:
                self.start_message()
                self.add_data(event)
        elif isinstance(event, ToolResultEvent):
            self._tool_result(event)
        elif isinstance(event, DeltaEvent | PartEvent | EndEvent):
            response = self.responses.get(event.response_id)
            if response is None or response.ended:
                return
            if isinstance(event, DeltaEvent):
                self._delta(response, event)
            elif isinstance(event, PartEvent):
                if event.part == len(response.parts):
                    self._new_part(response, event)
            else:
                reason = event.finish_reason
                self._end_response(response, event.state, reason, event.usage, event.error)

    def start_message(self) -> None:
        """Begin the message, where that has not been done."""
        if not self.started:
            self.started = True
            assert self.run is not None
            self.begin_message(self.run)

    def _start(
        self, response_id: str, run: str | None, metadata: dict[str, Any], channel: str
    ) -> ResponseState | None:
        """The state of a response of this message; None for those of others."""
        response = self.responses.get(response_id)
        if response is None and (run or response_id) in self._runs:
            response = ResponseState(response_id, run, metadata, channel)
            self.responses[response_id] = response
            self.start_message()
        return response

    def _new_part(self, response: ResponseState, source: Part | PartEvent) -> PartState:
        part = PartState(
            len(response.parts),
            source.kind,
            source.name,
            source.call_id,
            source.data,
            provider_executed=source.provider_executed,
        )
        response.parts.append(part)
        if part.kind == "tool_call":
            part.call_id = part.call_id or f"{response.id}:{part.index}"
            response.calls.setdefault(part.call_id, part)
        if part.kind == approvals.KIND and self._approval(response, part):
            return part
        self.open_part(response, part)
        return part

    def _approval(self, response: ResponseState, part: PartState) -> bool:
        """Take a request for approval; False where the part is none."""
        request = approvals.request_of(part.name, part.call_id, part.data)
        if request is None:
            return False
        part.done = True
        response.approvals[request.id] = request
        called = self.call_of(request)
        if called is not None and not called[1].done:
            self.close_part(*called)
            called[1].done = True
        self.ask_approval(request)
        return True

    def call_of(self, request: ApprovalRequest) -> tuple[ResponseState, PartState] | None:
        """The tool call that a request is about, and its response, where they are known."""
        caller = self._caller(request.call_id) if request.call_id else None
        return None if caller is None else (caller, caller.calls[request.call_id or ""])

    def _decide(self, response: ResponseState, result: ToolResult) -> None:
        request = response.approvals[result.call_id]
        if request.id not in response.decisions:
            approval = approvals.decision_of(request, response.id, result.output)
            response.decisions[request.id] = approval
            self.add_decision(approval)

    @property
    def pending(self) -> list[ApprovalRequest]:
        """What the run asks approval of, and nobody has answered."""
        return [
            request
            for response in self.responses.values()
            for request in response.approvals.values()
            if request.id not in response.decisions
        ]

    def _delta(self, response: ResponseState, event: DeltaEvent) -> None:
        if response.ended or event.part > len(response.parts):
            return
        if event.part == len(response.parts):
            if event.offset:
                return
            part = self._new_part(response, Part(kind=event.kind))
        else:
            part = response.parts[event.part]
        # In a hole nothing is written: the snapshot that fills it is still to come.
        self._append(response, part, overlap(part.length, event.offset, event.text))

    def _append(self, response: ResponseState, part: PartState, text: str | None) -> None:
        if text:
            part.append(text)
            self.add_text(response, part, text)

    def _snapshot(self, snapshot: Response) -> None:
        response = self._start(snapshot.id, snapshot.run, snapshot.metadata, snapshot.channel)
        if response is None:
            return
        response.started_at = snapshot.started_at or response.started_at
        for index, source in enumerate(() if response.ended else snapshot.parts):
            if index == len(response.parts):
                part = self._new_part(response, source)
            else:
                part = response.parts[index]
            self._append(response, part, overlap(part.length, 0, source.text))
        for result in snapshot.tool_results:
            self._take_result(response, result)
        if snapshot.ended and not response.ended:
            reason = snapshot.finish_reason
            self._end_response(response, snapshot.state, reason, snapshot.usage, snapshot.error)

    # -- tool results

    def _tool_result(self, event: ToolResultEvent) -> None:
        result = ToolResult(
            call_id=event.call_id, name=event.name, output=event.output, error=event.error
        )
        if event.response_id is not None:
            response = self.responses.get(event.response_id)
        elif event.run is not None and event.run not in self._runs:
            return
        else:
            response = self._caller(event.call_id)
            # Without a run it may be of any: only calls that are known count.
            if response is None and event.run is not None:
                self._early_results.setdefault(event.call_id, result)
        if response is not None:
            self._take_result(response, result)

    def _caller(self, call_id: str) -> ResponseState | None:
        """The response that made a call: the last one whose call is not answered yet."""
        caller = None
        for response in self.responses.values():
            if call_id in response.calls and (caller is None or call_id not in response.answered):
                caller = response
        return caller

    def _take_result(self, response: ResponseState, result: ToolResult) -> None:
        if result.call_id in response.approvals:
            self._decide(response, result)
            return
        if result.call_id in response.answered:
            return
        part = response.calls.get(result.call_id)
        if part is None:
            caller = self._caller(result.call_id)
            if caller is None:
                self._early_results.setdefault(result.call_id, result)
            elif caller is not response:
                self._take_result(caller, result)
            return
        if not (part.done or response.ended or is_json(part.text)):
            response.early_results.setdefault(result.call_id, result)  # the call is still growing
            return
        response.answered.add(result.call_id)
        if result.error is not None:
            where = f"call {result.call_id!r} of response {response.id!r}"
            error = shown_error(result.error or "error", self.on_error, where)
            result = replace(result, error=error)
        if not part.done:
            self.close_part(response, part)
            part.done = True
        part.result = result
        self.add_result(response, part, result)

    # -- ends

    def _end_response(
        self,
        response: ResponseState,
        state: State,
        finish_reason: str | None,
        usage: dict[str, Any] | None,
        error: str | None,
    ) -> None:
        if error is not None and state != "cancelled":  # then it is what a user said
            error = shown_error(error, self.on_error, f"response {response.id!r}")
        response.finish_reason, response.usage, response.error = finish_reason, usage, error
        self._close_parts(response, cut=state != "complete")
        for result in list(response.early_results.values()):
            self._take_result(response, result)
        for call_id in response.calls.keys() & self._early_results.keys() - response.answered:
            self._take_result(response, self._early_results.pop(call_id))
        response.state = state
        if not response.envelope:
            self.last_ended = response
        self.end_response(response)

    def _close_parts(self, response: ResponseState, *, cut: bool) -> None:
        for part in response.parts:
            if not part.done:
                self.close_part(response, part, cut=cut)
                part.done = True

    def _lead(self) -> ResponseState | None:
        """The response that says how the run ended."""
        first = self.responses.get(self.run or "")
        return first if first is not None and first.envelope else self.last_ended

    def _check_over(self, event: Event | None = None) -> None:
        if self.finished or not self.responses or self.run is None:
            return
        if any(not response.ended for response in self.responses.values()):
            if self._waits():
                self._finish(self._lead() or next(iter(self.responses.values())))
            return
        lead = self._lead()
        if lead is None or (self._enveloped and not lead.envelope):
            return
        # A response that begins after this run, and is not of it, shows that the run is over.
        passed = isinstance(event, StartEvent) and event.response_id not in self.responses
        if lead.envelope or passed or not lead.awaits_tools:
            self._finish(lead)

    def _waits(self) -> bool:
        """Whether the run waits for approvals, and for nothing else."""
        pending = self.pending if self.pauses else []
        if not pending or pending[-1].more:
            return False
        open_responses = [response for response in self.responses.values() if not response.ended]
        return all(
            response.approvals.keys() - response.decisions.keys() for response in open_responses
        )

    def _finish(self, lead: ResponseState | None) -> None:
        if self.pauses and lead is not None and lead.state in MAY_WAIT:
            self.interrupted = self.pending
        else:
            for request in self.pending:
                self.withdraw_approval(request)
        for response in self.responses.values():
            if not response.ended:
                self._close_parts(response, cut=not self.interrupted)
        self.finished = True
        self.end_message(self._failure_behind(lead) or lead)

    def _failure_behind(self, lead: ResponseState | None) -> ResponseState | None:
        """The response that began last, where it failed and the agent has not noticed.

        SDKs raise nothing for a reply that was cut off: an agent that relays it ends in good order.
        One that notices writes something, or asks again.
        """
        if lead is None or not lead.envelope or lead.state != "complete":
            return None
        if any(part.length for part in lead.parts):
            return None
        replies = [response for response in self.responses.values() if not response.envelope]
        # Not the last one in `responses`: a replay has them in the order of their last change.
        last = max(replies, key=lambda response: response.started_at, default=None)
        return last if last is not None and last.state in ("failed", "abandoned") else None
