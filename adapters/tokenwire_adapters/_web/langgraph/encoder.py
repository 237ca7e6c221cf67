"""`LangGraphEncoder`: a run as LangGraph's server streams one, for ``useStream``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenwire.approvals import Approval, ApprovalRequest
from tokenwire.events import DataEvent, ToolResult
from tokenwire_adapters._web.langgraph.messages import Messages, interrupt_of, is_text
from tokenwire_adapters._web.ui.encoder import RunEncoder
from tokenwire_adapters._web.ui.errors import WITHDRAWN
from tokenwire_adapters._web.ui.json import denial_text, json_bytes, object_of
from tokenwire_adapters._web.ui.state import PartState, ResponseState

__all__ = ["LangGraphEncoder", "RunReader"]

_UTTERED = frozenset({"text", "refusal", "reasoning", "tool_result"})


class RunReader(RunEncoder):
    """Puts the messages of a run together; encoders add what is sent of it.

    :param values: the state that the run begins with, without messages.
    :ivar said: the messages of the run so far.
    """

    name = "langgraph"
    pauses = True

    def __init__(
        self,
        *,
        run: str | None = None,
        enveloped: bool = False,
        values: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(run=run, enveloped=enveloped)
        self.said = Messages()
        self.values = dict(values or {})

    def begin_message(self, run: str) -> None:
        pass

    def open_part(self, response: ResponseState, part: PartState) -> None:
        if part.kind == "tool_call":
            self.said.block(response, part)
            self.call_begun(response, part)
        elif part.kind not in _UTTERED and part.data is not None:
            self._data_part(response, part)

    def add_text(self, response: ResponseState, part: PartState, text: str) -> None:
        if part.kind in ("tool_call", "reasoning") or is_text(part):
            self.said.add_text(response, part, text)
            self.text_added(response, part, text)

    def close_part(self, response: ResponseState, part: PartState, *, cut: bool = False) -> None:
        _ = cut
        if part.kind == "tool_result":
            self.take_result_part(response, part, part.text)
        elif part.kind in ("tool_call", "reasoning") or is_text(part):
            self.part_ended(response, part)
        elif part.data is None or part.length:
            self._data_part(response, part)

    def add_result(self, response: ResponseState, part: PartState, result: ToolResult) -> None:
        message = self.said.add_result(response, part, result)
        self.result_added(message)

    def add_data(self, event: DataEvent) -> None:
        self.custom(event.name, event.data)

    def _data_part(self, response: ResponseState, part: PartState) -> None:
        name = part.label
        value: Any = part.data if part.data is not None else part.text
        if name == "state" and isinstance(value, dict):
            self.values |= {key: one for key, one in object_of(value).items() if key != "messages"}
            self.values_changed()
        else:
            self.custom(name, value, event_id=f"{response.id}.{part.index}.data")

    def end_response(self, response: ResponseState) -> None:
        self.said.end(response)

    def add_decision(self, approval: Approval) -> None:
        if not approval.approved:
            self.refuse_call(approval.request, denial_text(approval.reason))

    def withdraw_approval(self, request: ApprovalRequest) -> None:
        self.refuse_call(request, WITHDRAWN)

    def end_message(self, response: ResponseState | None) -> None:
        pass

    def failure_of(self, response: ResponseState | None) -> str | None:
        """What went wrong, where the run failed."""
        if response is None or response.state in ("failed", "abandoned"):
            return self.failure_text(response)
        return None

    # -- what a protocol sends of it

    def call_begun(self, response: ResponseState, part: PartState) -> None:
        """Send the beginning of a tool call."""

    def text_added(self, response: ResponseState, part: PartState, text: str) -> None:
        """Send text, or some of the arguments of a tool call."""

    def part_ended(self, response: ResponseState, part: PartState) -> None:
        """Send the end of a part."""

    def result_added(self, message: dict[str, Any]) -> None:
        """Send the answer of a tool."""

    def values_changed(self) -> None:
        """Send the state of the thread."""

    def custom(self, name: str, value: Any, *, event_id: str | None = None) -> None:
        """Send anything else.

        :param event_id: the same whenever this is sent.
        """


class LangGraphEncoder(RunReader):
    """Encodes one run as the events of ``runs/stream``.

    The client adds chunks to what it has of a message, also after a reconnect. So a client that
    joins is given the messages that are whole as ``values``, those that grow after a ``remove``.

    :param before: the messages that the run begins with; `values` likewise: the rest of the state.
    """

    def __init__(
        self,
        *,
        run: str | None = None,
        enveloped: bool = False,
        before: Sequence[dict[str, Any]] = (),
        values: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(run=run, enveloped=enveloped, values=values)
        self._before = before
        self._joining = True  # what has happened is gathered, to be sent as one

    def _event(self, name: str, data: Any) -> None:
        self.emit(json_bytes(data), event=name)

    def begin_message(self, run: str) -> None:
        self._event("metadata", {"run_id": run, "attempt": 1})

    def _values(self, messages: Sequence[dict[str, Any]]) -> None:
        said = {message["id"] for message in messages}
        before = [message for message in self._before if message["id"] not in said]
        self._event("values", {**self.values, "messages": [*before, *messages]})

    def end_past(self) -> None:
        self._joining = False
        growing = {response.id for response in self.responses.values() if not response.ended}
        messages = self.said.all()
        self.start_message()
        self._values([message for message in messages if message["id"] not in growing])
        for message in messages:
            if message["id"] in growing:
                self._event(
                    "messages", [{"type": "remove", "id": message["id"], "content": ""}, {}]
                )
                self._whole(message)

    def _whole(self, message: dict[str, Any]) -> None:
        calls = [
            {"name": call["name"], "args": self._args(message["id"], call), "id": call["id"]}
            for call in message.get("tool_calls", ())
        ]
        indexed = [{**call, "index": self._index(call["id"])} for call in calls]
        self._chunk(message["id"], message["content"], indexed)

    def _chunk(self, response_id: str, content: Any, calls: Sequence[dict[str, Any]] = ()) -> None:
        chunk: dict[str, Any] = {"type": "AIMessageChunk", "id": response_id, "content": content}
        if calls:
            chunk["tool_call_chunks"] = calls
        self._event("messages", [chunk, {"run_id": self.run, "langgraph_node": "agent"}])

    def _args(self, response_id: str, call: dict[str, Any]) -> str:
        for part in self.responses[response_id].parts:
            if part.kind == "tool_call" and part.call_id == call["id"]:
                return part.text
        return ""

    def _index(self, call_id: str) -> int:
        for response in self.responses.values():
            if call_id in response.calls:
                return int(self.said.block(response, response.calls[call_id])["index"])
        return 0

    def call_begun(self, response: ResponseState, part: PartState) -> None:
        if not self._joining:
            index = self.said.block(response, part)["index"]
            call = {"name": part.name or "tool", "args": "", "id": part.call_id, "index": index}
            self._chunk(response.id, "", [call])

    def text_added(self, response: ResponseState, part: PartState, text: str) -> None:
        if self._joining:
            return
        block = self.said.block(response, part)
        if part.kind == "tool_call":
            call = {"name": None, "args": text, "id": None, "index": block["index"]}
            self._chunk(response.id, "", [call])
        elif part.kind == "reasoning":
            content = {"type": "reasoning", "reasoning": text, "index": block["index"]}
            self._chunk(response.id, [content])
        elif self.said.in_blocks(response.id):
            self._chunk(response.id, [{"type": "text", "text": text, "index": block["index"]}])
        else:
            self._chunk(response.id, text)

    def result_added(self, message: dict[str, Any]) -> None:
        if not self._joining:
            self._event("messages", [message, {"run_id": self.run, "langgraph_node": "tools"}])

    def values_changed(self) -> None:
        if not self._joining:
            self._values(self.said.all())

    def custom(self, name: str, value: Any, *, event_id: str | None = None) -> None:
        _ = event_id
        if not self._joining:
            self._event("custom", {"name": name, "data": value})

    def end_message(self, response: ResponseState | None) -> None:
        self._joining = False
        self._values(self.said.all())
        if self.interrupted:
            interrupts = [interrupt_of(request) for request in self.interrupted]
            self._event("values", {"__interrupt__": interrupts})
            return
        error = self.failure_of(response)
        if error is not None:
            self._event("error", {"error": "AgentError", "message": error})
