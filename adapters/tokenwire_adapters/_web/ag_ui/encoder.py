"""`AgUiEncoder`: a run of AG-UI 1.0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tokenwire.approvals import Approval, ApprovalRequest
from tokenwire.encoding import Frame
from tokenwire.events import DataEvent, Event, ToolResult
from tokenwire_adapters._web.ag_ui.versions import downgraded, outcome_before_1
from tokenwire_adapters._web.ui.encoder import RunEncoder
from tokenwire_adapters._web.ui.errors import WITHDRAWN
from tokenwire_adapters._web.ui.json import denial_text, json_bytes, json_text, list_of, usage_of
from tokenwire_adapters._web.ui.state import PartState, ResponseState

__all__ = ["PROTOCOL_VERSION", "AgUiEncoder"]

PROTOCOL_VERSION = "1.0"

_TEXT = frozenset({"text", "refusal"})
_GROWING = _TEXT | {"reasoning", "tool_call"}
_ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "reason": {"type": "string"},
        "editedArgs": {"type": "object"},
    },
    "required": ["approved"],
}
_CODES = {"failed": "failed", "abandoned": "abandoned"}


class AgUiEncoder(RunEncoder):
    """Encodes one run as a run of AG-UI.

    A response becomes an assistant message with its tool calls; further text parts and reasoning
    are messages of their own. A closed message that grows again is opened again, by its id.
    A data part or event is a ``CUSTOM`` event; one named ``state`` is a ``STATE_SNAPSHOT``, and one
    named ``state_delta`` (a JSON Patch, RFC 6902) a ``STATE_DELTA``.

    :param run: the run to encode; by default the first one that is seen streaming.
    :param enveloped: whether the run is known to have an envelope.
    :param thread_id: the thread of the run; by default the channel.
    :param client_run: the id of the run at the client, where it is another one there.
    :param history: messages before the run. With them, what has happened of the run by the time
        that a client joins is sent as one ``MESSAGES_SNAPSHOT``, which replaces all that the
        client has.
    :param state: the state before the run, for a client that joins.
    :param protocol_version: as the client declares it; None, as clients before 1.0 do: nothing is
        sent that they refuse.
    """

    name = "ag-ui"
    forks = True
    passing = RunEncoder.passing | {"_time"}
    pauses = True

    def __init__(
        self,
        *,
        run: str | None = None,
        enveloped: bool = False,
        thread_id: str | None = None,
        client_run: str | None = None,
        history: Sequence[dict[str, Any]] | None = None,
        state: Any = None,
        protocol_version: str | None = PROTOCOL_VERSION,
    ) -> None:
        super().__init__(run=run, enveloped=enveloped)
        self._before_1 = protocol_version is None
        self._client_run = client_run
        self._time: int | None = None  # of the event that is being encoded, in milliseconds
        self._state = state
        self._thread_id = thread_id
        self._messages: list[dict[str, Any]] | None = None if history is None else [*history]
        self._known_results = {
            message.get("id") for message in history or () if message.get("role") == "tool"
        }
        self._snapshot_messages: dict[str, dict[str, Any]] = {}  # of the run, by id
        self._open_parts: dict[str, PartState] = {}  # by response: the one that is growing
        self._answered: set[str] = set()
        self._decided: set[str] = set()  # calls that the agent makes, or does not

    def encode(self, event: Event) -> Iterable[Frame]:
        self._time = event.ts
        return super().encode(event)

    def _event(self, type_: str, **fields: Any) -> None:
        time = {} if self._time is None else {"timestamp": self._time}
        self.emit(json_bytes({"type": type_, **time, **fields}))

    # -- the run

    def begin_message(self, run: str) -> None:
        response = next(iter(self.responses.values()), None)
        if self._thread_id is None:
            self._thread_id = (response.channel if response is not None else "") or "thread"
        version = {} if self._before_1 else {"protocolVersion": PROTOCOL_VERSION}
        self._client_run = self._client_run or run
        self._event("RUN_STARTED", threadId=self._thread_id, runId=self._client_run, **version)
        if self._state is not None:
            self._event("STATE_SNAPSHOT", snapshot=self._state)

    def continue_message(self, run: str) -> None:
        for part in self._open_parts.values():
            part.open = False
        self._open_parts.clear()
        self.begin_message(run)

    def end_past(self) -> None:
        messages, self._messages = self._messages, None
        if messages is None:
            return
        if self.started:
            of_run = self._snapshot_messages
            before = [message for message in messages if message.get("id") not in of_run]
            known = downgraded(before) if self._before_1 else before
            self._event("MESSAGES_SNAPSHOT", messages=[*known, *of_run.values()])
        self._snapshot_messages.clear()
        for part in self._open_parts.values():  # the client was sent a snapshot instead
            part.open = False
        self._open_parts.clear()

    @property
    def _gathering(self) -> bool:
        """Whether messages go into the snapshot, rather than to the client."""
        return self._messages is not None

    def end_message(self, response: ResponseState | None) -> None:
        self.end_past()
        usage = self._usage()
        counted: dict[str, Any] = {"usage": usage} if usage else {}
        state = "lost" if response is None else response.state
        interrupt = self._interrupt_outcome()
        if interrupt is not None:
            self._run_finished(interrupt, counted)
            return
        if state in ("complete", "cancelled"):
            assert self.run is not None
            outcome: dict[str, Any] = {"type": "success"}
            if state == "cancelled":
                outcome = {"type": "cancelled"}
            else:
                settled = self._answered | self._decided
                pending = [call for call in self._calls_of_pages() if call not in settled]
                if pending:
                    outcome["pendingToolCallIds"] = pending
            self._run_finished(outcome, counted)
            return
        code = _CODES.get(state, "lost")
        self._event("RUN_ERROR", message=self.failure_text(response), code=code, **counted)

    def _run_finished(self, outcome: dict[str, Any], counted: dict[str, Any]) -> None:
        result = outcome_before_1(outcome) if self._before_1 else {"outcome": outcome}
        self._event(
            "RUN_FINISHED", threadId=self._thread_id, runId=self._client_run, **result, **counted
        )

    def _calls_of_pages(self) -> list[str]:
        """The tool calls, in order, that the provider does not run itself."""
        return [
            part.wire_id
            for response in self.responses.values()
            for part in response.parts
            if part.kind == "tool_call" and part.wire_id and not part.provider_executed
        ]

    def _usage(self) -> list[dict[str, Any]]:
        by_model: dict[tuple[str, str], dict[str, Any]] = {}
        for response in self.responses.values():
            counts = usage_of(response.usage)
            if not counts:
                continue
            labels = {
                name: response.metadata[name]
                for name in ("provider", "model")
                if isinstance(response.metadata.get(name), str)
            }
            entry = by_model.setdefault(
                (labels.get("provider", ""), labels.get("model", "")), dict[str, Any](labels)
            )
            for name, count in counts.items():
                entry[name] = entry.get(name, 0) + count
        return list(by_model.values())

    # -- parts

    def _close(self, response: ResponseState) -> None:
        """End the part of a response that is open: there is one at a time."""
        part = self._open_parts.pop(response.id, None)
        if part is None:
            return
        part.open = False
        if self._gathering:
            return
        if part.kind == "tool_call":
            self._event("TOOL_CALL_END", toolCallId=part.wire_id)
        elif part.kind == "reasoning":
            self._event("REASONING_MESSAGE_END", messageId=part.wire_id)
            self._event("REASONING_END", messageId=part.wire_id)
        else:
            self._event("TEXT_MESSAGE_END", messageId=part.wire_id)

    def _ensure_open(self, response: ResponseState, part: PartState) -> None:
        """Open this part, and close the one that is open."""
        if part.open:
            return
        self._close(response)
        if not part.wire_id:
            part.wire_id = self._wire_id_of(response, part)
        part.open = True
        self._open_parts[response.id] = part
        if self._gathering:
            self._gather(response, part)
        elif part.kind == "tool_call":
            self._event(
                "TOOL_CALL_START",
                toolCallId=part.wire_id,
                toolCallName=part.name or "tool",
                parentMessageId=response.id,
                **_call_metadata(part),
            )
        elif part.kind == "reasoning":
            self._event("REASONING_START", messageId=part.wire_id)
            self._event("REASONING_MESSAGE_START", messageId=part.wire_id, role="reasoning")
        else:
            self._event("TEXT_MESSAGE_START", messageId=part.wire_id, role="assistant")

    def _wire_id_of(self, response: ResponseState, part: PartState) -> str:
        if part.kind == "tool_call":
            return self.unique_call_id(response, part)
        if part.kind in _TEXT:
            first = all(other is part or other.kind not in _TEXT for other in response.parts)
            if first:
                return response.id
        return f"{response.id}:{part.index}"

    def open_part(self, response: ResponseState, part: PartState) -> None:
        kind = part.kind
        if kind == "tool_call":
            self._ensure_open(response, part)
        elif kind in _TEXT or kind == "reasoning":
            # Its text comes next; an id that is chosen now follows the order of the parts.
            part.wire_id = self._wire_id_of(response, part)
        elif kind != "tool_result" and part.data is not None:
            self._custom(part.label, part.value)

    def add_text(self, response: ResponseState, part: PartState, text: str) -> None:
        kind = part.kind
        if kind not in _GROWING:
            return
        if kind == "tool_call" and part.wire_id in self._answered:
            return
        self._ensure_open(response, part)
        if self._gathering:
            self._gather_text(part, text)
        elif kind == "tool_call":
            self._event("TOOL_CALL_ARGS", toolCallId=part.wire_id, delta=text)
        elif kind == "reasoning":
            self._event("REASONING_MESSAGE_CONTENT", messageId=part.wire_id, delta=text)
        else:
            self._event("TEXT_MESSAGE_CONTENT", messageId=part.wire_id, delta=text)

    def close_part(self, response: ResponseState, part: PartState, *, cut: bool = False) -> None:
        _ = cut
        kind = part.kind
        if part.open:
            self._close(response)
        elif kind == "tool_result":
            self.take_result_part(response, part, part.text)
        elif kind not in _GROWING and (part.data is None or part.length):
            self._custom(part.label, part.value)

    def add_result(self, response: ResponseState, part: PartState, result: ToolResult) -> None:
        if part.open:
            self._close(response)
        self._answered.add(part.wire_id)
        content = json_text(result.output) if result.error is None else result.error
        name = f"{response.id}:{part.index}:result"
        if self._gathering:
            message = {"id": name, "role": "tool", "toolCallId": part.wire_id, "content": content}
            if result.error is not None:
                message["error"] = result.error
            self._snapshot_messages[name] = message
            return
        if name in self._known_results:
            return  # the client sent it with its own messages
        self._event(
            "TOOL_CALL_RESULT",
            messageId=name,
            toolCallId=part.wire_id,
            content=content,
            role="tool",
        )

    # -- approvals

    def _interrupt_outcome(self) -> dict[str, Any] | None:
        """The outcome of a run that waits for approvals; None for others."""
        interrupts = [self._interrupt(request) for request in self.interrupted]
        return {"type": "interrupt", "interrupts": interrupts} if interrupts else None

    def _interrupt(self, request: ApprovalRequest) -> dict[str, Any]:
        called = self.call_of(request)
        call_id = request.call_id if called is None else called[1].wire_id
        message = request.message or f"May {request.tool} be called?"
        interrupt: dict[str, Any] = {"id": request.id, "reason": "confirmation", "message": message}
        if call_id is not None:
            interrupt |= {"reason": "tool_call", "toolCallId": call_id}
        metadata = {"tool": request.tool, "input": request.input}
        return {**interrupt, "responseSchema": _ANSWER, "metadata": metadata}

    def add_decision(self, approval: Approval) -> None:
        called = self.call_of(approval.request)
        if called is not None:
            self._decided.add(called[1].wire_id)
            if not approval.approved:
                self.refuse_call(approval.request, denial_text(approval.reason))

    def withdraw_approval(self, request: ApprovalRequest) -> None:
        self.refuse_call(request, WITHDRAWN)

    # -- everything else

    def add_data(self, event: DataEvent) -> None:
        self._custom(event.name, event.data)

    def _custom(self, name: str, value: Any) -> None:
        if name == "state" and value is not None:
            self._event("STATE_SNAPSHOT", snapshot=value)
        elif name == "state_delta" and _is_patch(value):
            self._event("STATE_DELTA", delta=value)
        else:
            self._event("CUSTOM", name=name, value=value)

    # -- the snapshot for a client that joins

    def _gather(self, response: ResponseState, part: PartState) -> None:
        if part.kind == "tool_call":
            message = self._message(response.id, "assistant")
            calls: list[dict[str, Any]] = message.setdefault("toolCalls", [])
            if all(call["id"] != part.wire_id for call in calls):
                function = {"name": part.name or "tool", "arguments": ""}
                call = {"id": part.wire_id, "type": "function", "function": function}
                calls.append(call | _call_metadata(part))
        elif part.kind == "reasoning":
            self._message(part.wire_id, "reasoning").setdefault("content", "")
        else:
            self._message(part.wire_id, "assistant").setdefault("content", "")

    def _message(self, name: str, role: str) -> dict[str, Any]:
        return self._snapshot_messages.setdefault(name, {"id": name, "role": role})

    def _gather_text(self, part: PartState, text: str) -> None:
        if part.kind != "tool_call":
            self._snapshot_messages[part.wire_id]["content"] += text
            return
        for message in self._snapshot_messages.values():
            for call in message.get("toolCalls", ()):
                if call["id"] == part.wire_id:
                    call["function"]["arguments"] += text


def _call_metadata(part: PartState) -> dict[str, Any]:
    """What a tool call and the event of its start have beside their usual fields."""
    return {"metadata": {"providerExecuted": True}} if part.provider_executed else {}


def _is_patch(value: Any) -> bool:
    operations = list_of(value)
    return bool(operations) and all(
        isinstance(step, dict) and "op" in step and "path" in step for step in operations
    )
