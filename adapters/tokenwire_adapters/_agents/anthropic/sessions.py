"""Sessions of Anthropic's managed agents, and their threads: messages whole, or in pieces first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tokenwire import PartWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.sessions import SessionRecorder
from tokenwire_adapters._agents.values import (
    arguments_of,
    dict_of,
    fields_of,
    index_of,
    join_text,
    list_of,
    name_of,
    provider_message,
    str_of,
    to_json,
)

__all__ = ["SessionEventsRecorder", "ThreadEventsRecorder"]

_CALL_IDS = ("tool_use_id", "mcp_tool_use_id", "custom_tool_use_id")


class SessionEventsRecorder(SessionRecorder):
    """Reads the events of a session: objects of the SDK, or decoded JSON.

    A turn goes from the agent's first event to the session's being idle, or over. Where the stream
    brings messages in pieces (``event_deltas``), the whole message adds what was missing. The class
    of an event is not looked at: the SDK gives events that it does not know the class of another.
    https://platform.claude.com/docs/en/managed-agents/events-and-streaming
    """

    provider = "anthropic"
    api = "sessions"
    _ends: ClassVar[frozenset[str]] = frozenset(
        {"session.status_idle", "session.status_terminated", "session.deleted"}
    )

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._parts: dict[tuple[str, int], tuple[PartWriter, list[str]]] = {}
        self._usage: dict[str, Any] | None = None
        self._failure: str | None = None

    def read(self, item: Any) -> None:
        event = fields_of(item)
        kind = name_of(event.get("type"))
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(self, event)
        elif kind in self._ends:
            reason = name_of(fields_of(event.get("stop_reason")).get("type"))
            self._end_turn(reason or kind.rpartition(".")[2].rpartition("_")[2])

    def turn_error(self) -> str | None:
        return self._failure or super().turn_error()

    def turn_usage(self, turn: int) -> dict[str, object] | None:
        return self._usage if turn == self._turn else None

    # -- what the agent says and does

    def _delta(self, event: Mapping[str, Any]) -> None:
        delta = fields_of(event.get("delta"))
        message_id = name_of(event.get("event_id"))
        if delta.get("type") == "content_delta" and message_id:
            text = str_of(fields_of(delta.get("content")).get("text"))
            self._write(message_id, index_of(delta.get("index")) or 0, text)

    def _message(self, event: Mapping[str, Any]) -> None:
        message_id = name_of(event.get("id"))
        for place, block in enumerate(list_of(event.get("content"))):
            whole = str_of(fields_of(block).get("text"))
            part = self._parts.get((message_id, place))
            written = "" if part is None else join_text(part[1])
            if whole.startswith(written):
                self._write(message_id, place, whole[len(written) :])
            elif whole:  # what watchers have read cannot be unsaid
                data = {"kind": "text", "text": whole}
                self.current().part("data", name="correction", data=data)

    def _write(self, message_id: str, place: int, text: str) -> None:
        """Append to the text at `place` in a message; each of those without an id is another."""
        part = self._parts.get((message_id, place))
        if not text:
            return
        if part is not None:
            part[0].write(text)
            part[1].append(text)
            return
        writer = self.current().part("text", text=text)
        if message_id:
            self._parts[message_id, place] = writer, [text]

    def _tool_use(self, event: Mapping[str, Any]) -> None:
        self.current().part(
            "tool_call",
            name=name_of(event.get("name")) or "tool",
            call_id=name_of(event.get("id")) or None,
            text=arguments_of(event.get("input")) or "{}",
            provider_executed=event.get("type") != "agent.custom_tool_use",
        )

    def _tool_result(self, event: Mapping[str, Any]) -> None:
        call_id = next(filter(None, (name_of(event.get(name)) for name in _CALL_IDS)), "")
        if call_id:
            content = event.get("content")
            is_list = isinstance(content, list | tuple)
            output = [to_json(block) for block in list_of(content)] if is_list else to_json(content)
            error = "the tool failed" if event.get("is_error") else None
            self.current().tool_result(call_id, output, error=error)

    def _answer(self, event: Mapping[str, Any]) -> None:
        """Take the user's result of a tool: it belongs to a turn, and begins none."""
        if self._turn is not None:
            self._tool_result(event)

    # -- the requests to the model that a turn takes

    def _request_start(self, event: Mapping[str, Any]) -> None:  # noqa: ARG002
        self.current()

    def _request_end(self, event: Mapping[str, Any]) -> None:
        self.current()
        counts = dict_of(to_json(event.get("model_usage")))
        self._usage = _sum_of(self._usage or {}, counts) or None

    # -- ends

    def _session_error(self, event: Mapping[str, Any]) -> None:
        """Note why the turn fails, once it ends."""
        error = fields_of(event.get("error"))
        status = error.get("retry_status")
        if (fields_of(status).get("type") or status) != "retrying":
            self.current()
            self._failure = provider_message(error) or "the provider reported an error"

    def _error(self, event: Mapping[str, Any]) -> None:
        """The stream reports an error: no other event ends the turn."""
        message = provider_message(event.get("error"))
        self._failure = message or "the provider reported an error"
        self._end_turn("error")

    def _end_turn(self, reason: str) -> None:
        if self._turn is not None:
            writer = self.current()
            if self._failure is not None:
                writer.fail(self._failure, finish_reason=reason, usage=self._usage)
            else:
                writer.finish(reason, self._usage)
        self._turn = self._usage = self._failure = None
        self._parts.clear()

    _handlers: ClassVar[dict[str, Callable[[Any, Mapping[str, Any]], None]]] = {
        "event_delta": _delta,
        "agent.message": _message,
        "agent.tool_use": _tool_use,
        "agent.mcp_tool_use": _tool_use,
        "agent.custom_tool_use": _tool_use,
        "agent.tool_result": _tool_result,
        "agent.mcp_tool_result": _tool_result,
        "user.tool_result": _answer,
        "user.custom_tool_result": _answer,
        "span.model_request_start": _request_start,
        "span.model_request_end": _request_end,
        "session.error": _session_error,
        "error": _error,
    }


class ThreadEventsRecorder(SessionEventsRecorder):
    """Reads the events of one thread of a session.

    On a session's own stream, the same events tell what becomes of other threads.
    """

    api = "sessions.threads"
    _ends = SessionEventsRecorder._ends | {
        "session.thread_status_idle",
        "session.thread_status_terminated",
    }


def _sum_of(total: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts, and those within them, of two requests together."""
    result = dict(total)
    for name, value in added.items():
        before = result.get(name)
        if type(value) is int and type(before) is int:
            result[name] = before + value
        elif isinstance(value, dict) and isinstance(before, dict):
            result[name] = _sum_of(dict_of(before), dict_of(value))
        elif value is not None:
            result[name] = value
    return result
