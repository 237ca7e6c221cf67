"""The event streams of Anthropic's managed agents: of a session, and of one of its threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tokenwire import PartWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.values import (
    fields_of,
    join_text,
    list_of,
    name_of,
    provider_message,
    str_of,
    to_json,
)
from tokenwire_adapters._agents.wires.json_recorder import JsonRecorder
from tokenwire_adapters._agents.wires.turns import forget_ended

__all__ = ["ManagedSessionRecorder"]

_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


class ManagedSessionRecorder(JsonRecorder):
    """Reads session events; what an agent does until the session is idle is one response.

    Messages come whole, and before that in pieces where these were asked for; the whole one then
    counts, for what the pieces have not brought.
    https://platform.claude.com/docs/en/managed-agents/events-and-streaming
    """

    provider = "anthropic"
    api = "sessions"
    reads_errors: ClassVar[bool] = True

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._turn = 0  # number of the one that is open, or comes next
        self._messages: dict[str, _Message] = {}  # those that came in pieces, by id
        self._failure: str | None = None

    def begin(self) -> None:
        """Do nothing: a response begins with what the agent does first, which may take long."""

    def read(self, item: Any) -> None:
        event = fields_of(item)
        handler = self._handlers.get(name_of(event.get("type")))
        if handler is not None:
            handler(self, event)

    def feed_reply(self, reply: Any) -> None:
        """Do nothing: what comes in one piece is a list of past events."""

    # -- what the agent says

    def _delta(self, event: Mapping[str, Any]) -> None:
        delta = fields_of(event.get("delta"))
        message_id = name_of(event.get("event_id"))
        if delta.get("type") == "content_delta" and message_id:
            text = fields_of(delta.get("content")).get("text")
            self._message_of(message_id).write(text, delta.get("index"))

    def _message(self, event: Mapping[str, Any]) -> None:
        message = self._message_of(name_of(event.get("id")))
        for place, block in enumerate(list_of(event.get("content"))):
            message.complete(fields_of(block).get("text"), place)
        self._messages.pop(name_of(event.get("id")), None)

    def _message_of(self, message_id: str) -> _Message:
        message = self._messages.get(message_id)
        if message is None:
            message = self._messages[message_id] = _Message(self._begin_text)
        return message

    def _begin_text(self, text: str) -> PartWriter:
        return self.writer(self._turn).part("text", text=text)

    def _tool_use(self, event: Mapping[str, Any]) -> None:
        self.tool_call(event.get("name"), event.get("id"), event.get("input"), self._turn)

    def _tool_result(self, event: Mapping[str, Any]) -> None:
        ids = ("tool_use_id", "mcp_tool_use_id", "custom_tool_use_id")
        call_id = next((event[name] for name in ids if str_of(event.get(name))), "")
        if name_of(call_id) and self._is_open:
            error = "the tool failed" if event.get("is_error") else None
            output = to_json(event.get("content"))
            self.writer(self._turn).tool_result(name_of(call_id), output, error=error)

    # -- ends

    @property
    def _is_open(self) -> bool:
        """Whether a turn has begun and not ended."""
        return self._turn in self.writers

    def _request_end(self, event: Mapping[str, Any]) -> None:
        """Add up the token counts of the requests to the model that a turn takes."""
        counts, usage = fields_of(event.get("model_usage")), self._usage or {}
        added = {name: counts[name] for name in _COUNTS if type(counts.get(name)) is int}
        if added:
            self._usage = {**usage, **{name: usage.get(name, 0) + added[name] for name in added}}

    def _error(self, event: Mapping[str, Any]) -> None:
        error = fields_of(event.get("error"))
        if fields_of(error.get("retry_status")).get("type") != "retrying":
            self._failure = provider_message(error) or "the provider reported an error"
            if event.get("type") == "error":
                self._end_turn("error")

    def _idle(self, event: Mapping[str, Any]) -> None:
        reason = fields_of(event.get("stop_reason")).get("type")
        self._end_turn(name_of(reason) or "idle")

    def _terminated(self, event: Mapping[str, Any]) -> None:
        self._end_turn(name_of(event.get("type")).rpartition("_")[2])

    def _thread_idle(self, event: Mapping[str, Any]) -> None:
        if self.request.get("thread"):  # else it is one of many, below the session
            self._idle(event)

    def _end_turn(self, reason: str) -> None:
        if self._is_open:
            writer = self.writers[self._turn]
            if self._failure is not None:
                writer.fail(self._failure, finish_reason=reason, usage=self._usage)
            else:
                writer.finish(reason, self._usage)
            self._turn += 1
            forget_ended(self.writers)
        self._messages.clear()
        self._usage = self._failure = None

    _handlers: ClassVar[dict[str, Callable[[Any, Mapping[str, Any]], None]]] = {
        "event_delta": _delta,
        "agent.message": _message,
        "agent.tool_use": _tool_use,
        "agent.mcp_tool_use": _tool_use,
        "agent.custom_tool_use": _tool_use,
        "agent.tool_result": _tool_result,
        "agent.mcp_tool_result": _tool_result,
        "user.tool_result": _tool_result,
        "user.custom_tool_result": _tool_result,
        "span.model_request_end": _request_end,
        "session.error": _error,
        "error": _error,
        "session.status_idle": _idle,
        "session.thread_status_idle": _thread_idle,
        "session.status_terminated": _terminated,
        "session.thread_status_terminated": _thread_idle,
        "session.deleted": _terminated,
    }


class _Message:
    """A message of the agent: what of its blocks has been written.

    :param begin: begins a text part.
    """

    def __init__(self, begin: Callable[[str], PartWriter]) -> None:
        self._begin = begin
        self._blocks: dict[int, tuple[PartWriter, list[str]]] = {}

    def write(self, text: Any, place: Any) -> None:
        """Append a piece of the text at `place`."""
        if not text or not isinstance(text, str):
            return
        number = place if type(place) is int else 0
        if number in self._blocks:
            part, pieces = self._blocks[number]
            part.write(text)
            pieces.append(text)
        else:
            self._blocks[number] = self._begin(text), [text]

    def complete(self, text: Any, place: int) -> None:
        """Write what of the whole text at `place` has not come in pieces."""
        if isinstance(text, str):
            written = join_text(self._blocks[place][1]) if place in self._blocks else ""
            if text.startswith(written):
                self.write(text[len(written) :], place)
