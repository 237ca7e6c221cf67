"""Sessions of Anthropic's managed agents, and their threads: messages whole, or in pieces first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from tokenwire import PartWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.sessions import SessionRecorder
from tokenwire_adapters._agents.values import (
    dict_of,
    fields_of,
    index_of,
    list_of,
    name_of,
    provider_message,
    str_of,
    to_json,
)

__all__ = ["SessionEventsRecorder", "ThreadEventsRecorder"]

_TOOL_USES = ("agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use")
_TOOL_RESULTS = {
    "agent.tool_result": "tool_use_id",
    "agent.mcp_tool_result": "mcp_tool_use_id",
}
_RETRYING = "retrying"


class SessionEventsRecorder(SessionRecorder):
    """Reads the events of ``beta.sessions.events.stream``.

    A turn goes from the agent's first event to the session's being idle, or over. Where the stream
    brings messages in pieces (``event_deltas``), the whole message adds what was missing. The class
    of an event is not looked at: the SDK gives events that it does not know the class of another.
    """

    provider = "anthropic"
    api = "sessions"
    _ends: ClassVar[tuple[str, ...]] = (
        "session.status_idle",
        "session.status_terminated",
        "session.deleted",
    )

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._turn: int | None = None
        self._parts: dict[tuple[str, int], tuple[PartWriter, list[str]]] = {}
        self._usage: dict[str, Any] | None = None
        self._error: str | None = None

    def read(self, item: Any) -> None:
        kind = name_of(getattr(item, "type", None))
        fields = fields_of(item)
        if kind == "event_delta":
            self._delta(fields)
        elif kind == "agent.message":
            self._message(fields)
        elif kind in _TOOL_USES:
            self._tool_use(fields)
        elif kind in _TOOL_RESULTS:
            self._tool_result(fields, name_of(fields.get(_TOOL_RESULTS[kind])))
        elif kind == "span.model_request_start":
            self._current()
        elif kind == "span.model_request_end":
            self._count(dict_of(to_json(fields.get("model_usage"))))
        elif kind == "session.error":
            self._note_error(fields_of(fields.get("error")))
        elif kind in self._ends:
            self._end_turn(kind, fields)

    def turn_usage(self, turn: int) -> dict[str, object] | None:
        return self._usage if turn == self._turn else None

    def _current(self) -> Any:
        """The writer of the turn, begun if need be."""
        if self._turn is None:
            self._turn = self.next_turn()
            self._parts.clear()
            self._usage = self._error = None
        return self.writer(self._turn)

    def _write(self, event_id: str, index: int, text: str) -> None:
        part = self._parts.get((event_id, index))
        if part is None:
            if text:
                self._parts[event_id, index] = (self._current().part("text", text=text), [text])
        else:
            part[0].write(text)
            part[1].append(text)

    def _delta(self, fields: Mapping[str, Any]) -> None:
        delta = fields_of(fields.get("delta"))
        content = fields_of(delta.get("content"))
        if delta.get("type") == "content_delta" and content.get("type") == "text":
            index = index_of(delta.get("index")) or 0
            self._write(name_of(fields.get("event_id")), index, str_of(content.get("text")))

    def _message(self, fields: Mapping[str, Any]) -> None:
        event_id = name_of(fields.get("id"))
        for index, block in enumerate(list_of(fields.get("content"))):
            whole = str_of(fields_of(block).get("text"))
            part = self._parts.get((event_id, index))
            written = "" if part is None else "".join(part[1])
            if whole.startswith(written):
                self._write(event_id, index, whole[len(written) :])
            elif whole:  # what watchers have read cannot be unsaid
                data = {"kind": "text", "text": whole}
                self._current().part("data", name="correction", data=data)

    def _tool_use(self, fields: Mapping[str, Any]) -> None:
        call_id = name_of(fields.get("id"))
        arguments = json.dumps(to_json(fields.get("input")), ensure_ascii=False, default=str)
        if call_id:
            self._current().tool_call(name_of(fields.get("name")) or "tool", call_id, arguments)

    def _tool_result(self, fields: Mapping[str, Any], call_id: str) -> None:
        if call_id:
            content = [to_json(block) for block in list_of(fields.get("content"))]
            error = "the tool failed" if fields.get("is_error") else None
            self._current().tool_result(call_id, content, error=error)

    def _count(self, usage: Mapping[str, Any]) -> None:
        """Add the token counts of one of the turn's requests to the model."""
        self._current()
        total = dict(self._usage or {})
        for name, value in usage.items():
            before = total.get(name)
            is_sum = type(value) is int and type(before) is int
            total[name] = before + value if is_sum else value
        self._usage = total

    def _note_error(self, error: Mapping[str, Any]) -> None:
        status = error.get("retry_status")
        status = fields_of(status).get("type") or status
        if status != _RETRYING:
            self._current()
            self._error = provider_message(error) or "the provider reported an error"

    def _end_turn(self, kind: str, fields: Mapping[str, Any]) -> None:
        if self._turn is None:
            return
        writer = self._current()
        reason = (
            name_of(fields_of(fields.get("stop_reason")).get("type")) or kind.rpartition(".")[2]
        )
        if self._error is not None:
            writer.fail(self._error, finish_reason=reason, usage=self._usage)
        else:
            writer.finish(reason, self._usage)
        self._turn = None


class ThreadEventsRecorder(SessionEventsRecorder):
    """Reads the events of ``beta.sessions.threads.events.stream``.

    On a session's own stream, the same events tell what becomes of other threads.
    """

    api = "sessions.threads"
    _ends = (
        "session.thread_status_idle",
        "session.thread_status_terminated",
        *SessionEventsRecorder._ends,
    )
