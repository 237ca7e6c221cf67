"""Approvals: an agent asks people before it acts, and exactly one answer counts.

A request is a part of kind ``approval`` of the response that asks. Whoever watches may answer, by
an input named ``approval``. The decision is a tool result whose call id is the request's, of which
every reader takes the first: it is kept with the response, whoever comes and goes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from weakref import WeakKeyDictionary

import msgspec

from tokenwire._clock import now_ms
from tokenwire._ids import new_id
from tokenwire.errors import ResponseCancelled, ResponseClosed
from tokenwire.events import (
    ENDED,
    EndEvent,
    Event,
    InputEvent,
    Response,
    SnapshotEvent,
    State,
    ToolResultEvent,
)
from tokenwire.sink import Sink
from tokenwire.watch import Watch
from tokenwire.writer import ResponseWriter

__all__ = [
    "INPUT",
    "KIND",
    "Answer",
    "Approval",
    "ApprovalRequest",
    "answer",
    "ask",
    "await_decision",
    "decide",
    "decision_of",
    "decisions_in",
    "pending_in",
    "request_of",
    "requests_in",
    "wait_for_decision",
]

KIND = "approval"
"""The kind of the part that is a request."""

INPUT = "approval"
"""The name of the input that answers one: ``{"id": …, "approved": …, "reason": …, "data": …}``."""

_LOOK_BACK = "30s"  # an answer may come between the request and the watch for it


class ApprovalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent wants to do, and may not without an answer.

    :ivar tool: the name of the tool that is to be called, with `input`.
    :ivar call_id: the tool call that it is about.
    :ivar message: for the person who answers.
    :ivar requested_at: milliseconds since 1970.
    :ivar more: another request of the same moment follows.
    """

    id: str
    tool: str
    input: Any = None
    call_id: str | None = None
    message: str | None = None
    requested_at: int = 0
    more: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a person answers to a request.

    :ivar id: of the request, or of the tool call that it is about.
    :ivar data: anything else that JSON can hold, such as another input for the tool.
    """

    id: str
    approved: bool
    reason: str | None = None
    data: Any = None


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """The decision on a request, the same for everybody.

    :ivar reason, data: what the person said beside it.
    :ivar sender: who answered, where that is known.
    :ivar run: the run that acts on it, where the one that asked is over.
    :ivar response_id: the response that asked.
    """

    request: ApprovalRequest
    response_id: str
    approved: bool
    reason: str | None = None
    data: Any = None
    sender: str | None = None
    run: str | None = None

    @property
    def id(self) -> str:
        """The id of the request."""
        return self.request.id


class _Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The output of the tool result that is a decision."""

    approved: bool
    reason: str | None = None
    data: Any = None
    sender: str | None = None
    run: str | None = None


# -- asking


def ask(
    response: ResponseWriter,
    tool: str,
    input: Any = None,
    *,
    call_id: str | None = None,
    message: str | None = None,
    more: bool = False,
) -> ApprovalRequest:
    """Ask for approval of a tool call, and return at once.

    :param input: of the tool.
    :param call_id: of the model's tool call that is to be approved; where there is none, one with
        this tool and input is added to the response.
    :param message: for the person who answers.
    :param more: another request follows at once.
    """
    request_id = new_id("ap-")
    if call_id is None:
        call_id = new_id("call-")
        response.tool_call(tool, call_id, msgspec.json.encode(input or {}, enc_hook=str).decode())
    now = now_ms()
    data: dict[str, Any] = {"input": input, "call_id": call_id, "requested_at": now}
    if message is not None:
        data["message"] = message
    if more:
        data["more"] = True
    response.part(KIND, name=tool, call_id=request_id, data=data)
    return ApprovalRequest(
        id=request_id,
        tool=tool,
        input=input,
        call_id=call_id,
        message=message,
        requested_at=now,
        more=more,
    )


async def await_decision(
    sink: Sink, response: ResponseWriter, request: ApprovalRequest
) -> Approval:
    """Wait until somebody has answered a request of a response.

    :raises ResponseCancelled: when the response is cancelled.
    :raises ResponseClosed: when it ends otherwise.
    """
    waiter = _Waiter(sink, response, request)
    async with waiter.watch() as watch:
        async for event in watch:
            decision = waiter.take(event)
            if decision is not None:
                return decision
    raise ResponseClosed(f"nobody can answer any more in response {response.id!r}")


def wait_for_decision(sink: Sink, response: ResponseWriter, request: ApprovalRequest) -> Approval:
    """Do what `await_decision` does, for code in a thread. Blocks."""
    waiter = _Waiter(sink, response, request)
    with waiter.watch() as watch:
        for event in watch:
            decision = waiter.take(event)
            if decision is not None:
                return decision
    raise ResponseClosed(f"nobody can answer any more in response {response.id!r}")


class _Waiter:
    """Turns the first answer to a request into the decision, and waits for that."""

    def __init__(self, sink: Sink, response: ResponseWriter, request: ApprovalRequest) -> None:
        self._sink = sink
        self._response = response
        self._request = request
        self._answered = False

    def watch(self) -> Watch:
        types = {"input", "tool_result", "snapshot", "end"}
        return self._sink.watch(self._response.channel, rewind=_LOOK_BACK, types=types)

    def take(self, event: Event) -> Approval | None:
        if isinstance(event, InputEvent):
            self._take_input(event)
        elif event.response_id != self._response.id:
            return None
        elif isinstance(event, ToolResultEvent):
            if event.call_id == self._request.id:
                return decision_of(self._request, self._response.id, event.output)
        elif isinstance(event, SnapshotEvent):
            decision = decisions_in(event.response).get(self._request.id)
            if decision is not None:
                return decision
            self._check_open(event.response.state, event.response.error)
        elif isinstance(event, EndEvent):
            self._check_open(event.state, event.error)
        return None

    def _take_input(self, event: InputEvent) -> None:
        if event.name != INPUT or self._answered:
            return
        try:
            given = msgspec.convert(event.data, Answer)
        except msgspec.ValidationError:
            return
        request, response = self._request, self._response
        if given.id == request.id or (
            given.id == request.call_id and _is_first_use(response, event)
        ):
            self._answered = True
            decide(
                self._sink,
                response.channel,
                msgspec.structs.replace(given, id=request.id),
                response_id=response.id,
                response_run=response.run,
                sender=event.sender,
            )

    def _check_open(self, state: State, error: str | None) -> None:
        if state == "cancelled":
            raise ResponseCancelled(self._response.id, error)
        if state in ENDED:
            raise ResponseClosed(f"response {self._response.id!r} has ended")


_used: WeakKeyDictionary[ResponseWriter, set[str]] = WeakKeyDictionary()


def _is_first_use(response: ResponseWriter, event: InputEvent) -> bool:
    """Whether an answer that names a tool call has decided nothing: the call may be asked twice."""
    used = _used.setdefault(response, set())
    if event.id is None or event.id in used:
        return event.id is None
    used.add(event.id)
    return True


# -- answering


async def answer(sink: Sink, channel: str, given: Answer, *, sender: str | None = None) -> None:
    """Answer a request whose agent waits for it; of several answers the first one counts.

    :raises InvalidName, BackendUnavailable: as `Sink.input` does.
    """
    data = msgspec.to_builtins(given)
    await sink.ainput(channel, INPUT, data, sender=sender, id=f"approval-{given.id}")


def decide(
    sink: Sink,
    channel: str,
    given: Answer,
    *,
    response_id: str,
    response_run: str | None,
    sender: str | None = None,
    run: str | None = None,
) -> None:
    """Publish a decision; it counts where none was published before. Returns at once.

    For whoever acts on it: the agent, or a server that begins it again.

    :param run: the run that acts on it, where the one that asked is over.
    """
    decision = _Decision(
        approved=given.approved, reason=given.reason, data=given.data, sender=sender, run=run
    )
    output = msgspec.to_builtins(decision)
    sink.tool_result(channel, given.id, output, response_id=response_id, run=response_run)


# -- reading


def request_of(name: str | None, call_id: str | None, data: Any) -> ApprovalRequest | None:
    """The request that a part with these fields is; None where it is none."""
    if not isinstance(data, dict) or not call_id:
        return None
    fields = {**cast("dict[str, Any]", data), "id": call_id, "tool": name or "tool"}
    try:
        return msgspec.convert(fields, ApprovalRequest)
    except msgspec.ValidationError:
        return None


def decision_of(request: ApprovalRequest, response_id: str, output: Any) -> Approval:
    """The decision that the output of a tool result is; what is none denies."""
    try:
        decision = msgspec.convert(output, _Decision)
    except msgspec.ValidationError:
        decision = _Decision(approved=False)
    return Approval(
        request=request,
        response_id=response_id,
        approved=decision.approved,
        reason=decision.reason,
        data=decision.data,
        sender=decision.sender,
        run=decision.run,
    )


def requests_in(response: Response) -> list[ApprovalRequest]:
    """What a response asks approval of, in order."""
    requests = (
        request_of(part.name, part.call_id, part.data)
        for part in response.parts
        if part.kind == KIND
    )
    return [request for request in requests if request is not None]


def decisions_in(response: Response) -> dict[str, Approval]:
    """The decisions on requests of a response, by the id of the request."""
    results = {result.call_id: result for result in response.tool_results}
    return {
        request.id: decision_of(request, response.id, results[request.id].output)
        for request in requests_in(response)
        if request.id in results
    }


def pending_in(responses: Iterable[Response]) -> list[ApprovalRequest]:
    """The requests of responses that nobody has answered."""
    pending: list[ApprovalRequest] = []
    for response in responses:
        decided = decisions_in(response)
        pending += [request for request in requests_in(response) if request.id not in decided]
    return pending
