"""`RunEncoder`: one run of a channel, as one message of a user interface's protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokenwire import approvals
from tokenwire.approvals import Approval
from tokenwire.encoding import Frame, StreamPlan
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
    ToolResultEvent,
)
from tokenwire.response import overlap
from tokenwire.sink import Sink
from tokenwire.watch import ChannelReader
from tokenwire_adapters._web.ui.answers import folded, known_part
from tokenwire_adapters._web.ui.errors import shown_error
from tokenwire_adapters._web.ui.results import ResultEncoder
from tokenwire_adapters._web.ui.runs import Run, join_run
from tokenwire_adapters._web.ui.selection import RunSelector
from tokenwire_adapters._web.ui.state import MAY_WAIT, PartState, ResponseState

__all__ = ["RunEncoder"]


class RunEncoder(ResultEncoder):
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
    :cvar forks: whether watchers whose encoders have the same state may share what one of them
        encodes. It is compared, and copied, attribute by attribute: say True where nothing that a
        subclass adds depends on the watcher, nor resists `copy.deepcopy`.
    :cvar passing: the attributes that are no part of that state, since each event sets them anew.
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

    def __init__(
        self, *, run: str | None = None, enveloped: bool = False, message_id: str | None = None
    ) -> None:
        super().__init__(run=run, message_id=message_id)
        self._enveloped = enveloped
        self._skipped: Sequence[Event] = ()
        self._past: Sequence[Event] = ()
        self._selector = RunSelector()

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
        self.message_id = run.message_id  # the client has it, and adds to it
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
        self._take_early_results(response)
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
