"""A reader of AG-UI 1.0 streams, written from its specification, that is strict."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from tests.support.needs import needs
from tokenwire.encoding import Frame

core = needs("ag_ui.core")

_ADAPTER: TypeAdapter[Any] = TypeAdapter(core.Event)


class AgUiRun:
    """The run that a stream tells, and the messages that a client has of it."""

    def __init__(self, messages: list[dict[str, Any]] | None = None) -> None:
        self.messages: list[dict[str, Any]] = messages or []
        self.events: list[dict[str, Any]] = []
        self.customs: list[dict[str, Any]] = []
        self.state: Any = None
        self.over: dict[str, Any] | None = None
        self.snapshots = 0
        self._open: dict[str, set[str]] = {"text": set(), "reasoning": set(), "tool": set()}
        self._spans: set[str] = set()

    def read(self, frames: list[Frame]) -> AgUiRun:
        for frame in frames:
            assert frame.event is None
            assert b"\n" not in frame.data
            self.take(json.loads(frame.data))
        return self

    def take(self, event: dict[str, Any]) -> None:
        model = _ADAPTER.validate_python(event)
        assert not model.model_extra, f"unknown fields: {model.model_extra}"
        assert model.model_dump(by_alias=True, mode="json") == event
        kind = event["type"]
        assert self.over is None, f"{kind} after the end"
        assert (kind == "RUN_STARTED") == (not self.events), kind
        self.events.append(event)
        getattr(self, f"_{kind.lower()}")(event)

    def message(self, name: str) -> dict[str, Any] | None:
        return next((each for each in self.messages if each["id"] == name), None)

    def _make(self, name: str, role: str, **more: Any) -> dict[str, Any]:
        found = self.message(name)
        if found is None:
            found = {"id": name, "role": role, **more}
            self.messages.append(found)
        assert found["role"] == role
        return found

    def _run_started(self, event: dict[str, Any]) -> None:
        assert event["protocolVersion"] == "1.0"

    def _text_message_start(self, event: dict[str, Any]) -> None:
        self._start("text", event["messageId"])
        self._make(event["messageId"], "assistant").setdefault("content", "")

    def _text_message_content(self, event: dict[str, Any]) -> None:
        self._content("text", event)

    def _text_message_end(self, event: dict[str, Any]) -> None:
        self._open["text"].remove(event["messageId"])

    def _reasoning_start(self, event: dict[str, Any]) -> None:
        assert event["messageId"] not in self._spans
        self._spans.add(event["messageId"])

    def _reasoning_end(self, event: dict[str, Any]) -> None:
        assert event["messageId"] not in self._open["reasoning"]
        self._spans.remove(event["messageId"])

    def _reasoning_message_start(self, event: dict[str, Any]) -> None:
        assert self._spans
        self._start("reasoning", event["messageId"])
        self._make(event["messageId"], "reasoning").setdefault("content", "")

    def _reasoning_message_content(self, event: dict[str, Any]) -> None:
        self._content("reasoning", event)

    def _reasoning_message_end(self, event: dict[str, Any]) -> None:
        self._open["reasoning"].remove(event["messageId"])

    def _start(self, kind: str, name: str) -> None:
        assert name not in self._open[kind]
        self._open[kind].add(name)

    def _content(self, kind: str, event: dict[str, Any]) -> None:
        assert event["messageId"] in self._open[kind]
        assert event["delta"], "an empty delta"
        found = self.message(event["messageId"])
        assert found is not None
        found["content"] += event["delta"]

    def _call(self, name: str) -> dict[str, Any] | None:
        calls = [call for each in self.messages for call in each.get("toolCalls", ())]
        found = [call for call in calls if call["id"] == name]
        assert len(found) <= 1
        return found[0] if found else None

    def _tool_call_start(self, event: dict[str, Any]) -> None:
        self._start("tool", event["toolCallId"])
        if self._call(event["toolCallId"]) is None:
            message = self._make(event["parentMessageId"], "assistant")
            function = {"name": event["toolCallName"], "arguments": ""}
            call = {"id": event["toolCallId"], "type": "function", "function": function}
            if "metadata" in event:
                call["metadata"] = event["metadata"]
            message.setdefault("toolCalls", []).append(call)

    def _tool_call_args(self, event: dict[str, Any]) -> None:
        assert event["toolCallId"] in self._open["tool"]
        assert event["delta"]
        call = self._call(event["toolCallId"])
        assert call is not None
        call["function"]["arguments"] += event["delta"]

    def _tool_call_end(self, event: dict[str, Any]) -> None:
        self._open["tool"].remove(event["toolCallId"])

    def _tool_call_result(self, event: dict[str, Any]) -> None:
        assert self._call(event["toolCallId"]) is not None
        assert self.message(event["messageId"]) is None
        self._make(
            event["messageId"], "tool", toolCallId=event["toolCallId"], content=event["content"]
        )

    def _messages_snapshot(self, event: dict[str, Any]) -> None:
        assert not any(self._open.values())
        names = [each["id"] for each in event["messages"]]
        assert len(set(names)) == len(names)
        self.snapshots += 1
        self.messages = json.loads(json.dumps(event["messages"]))

    def _custom(self, event: dict[str, Any]) -> None:
        self.customs.append(event)

    def _state_snapshot(self, event: dict[str, Any]) -> None:
        self.state = event["snapshot"]

    def _run_finished(self, event: dict[str, Any]) -> None:
        assert event["runId"] == self.events[0]["runId"]
        assert event["threadId"] == self.events[0]["threadId"]
        self._all_closed()
        self.over = event

    def _run_error(self, event: dict[str, Any]) -> None:
        assert event["message"]
        self._all_closed()
        self.over = event

    def _all_closed(self) -> None:
        assert not any(self._open.values())
        assert not self._spans
