"""Sessions of OpenAI's hosted agents: the events of one turn are those of one response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenwire import ResponseWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.openai.responses import ResponsesRecorder
from tokenwire_adapters._agents.stainless.sessions import SessionRecorder
from tokenwire_adapters._agents.values import (
    arguments_of,
    fields_of,
    name_of,
    provider_message,
    to_json,
    with_type,
)

__all__ = ["AgentSessionRecorder"]

_TURN = "agent.session.turn."
_ENDS = ("completed", "failed", "cancelled")
_ITEMS = {"item.added": "output_item.added", "item.done": "output_item.done"}


class _Turn(ResponsesRecorder):
    """Reads the events of one turn, as events of a response, into the session's writer."""

    def __init__(self, session: AgentSessionRecorder, number: int) -> None:
        super().__init__(session.options, session.request)
        self._session = session
        self.number = number

    def writer(self, index: int = 0) -> ResponseWriter:  # noqa: ARG002
        return self._session.writer(self.number)

    def finish_turn(self, turn: Mapping[str, Any], status: str, usage: Any) -> None:
        """The turn is over."""
        self._end({"usage": usage or turn.get("usage"), "error": turn.get("error")}, status)


class AgentSessionRecorder(SessionRecorder):
    """Reads the events of ``beta.agents.sessions.events.stream``.

    A command that the agent ran becomes a tool call and its result. The class of an event is not
    looked at: the SDK gives events that it does not know the class of another.
    """

    provider = "openai"
    api = "agents.sessions"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._open: dict[str, _Turn] = {}

    def read(self, item: Any) -> None:
        kind = name_of(getattr(item, "type", None))
        if kind.startswith(_TURN):
            self._read_turn(item, kind.removeprefix(_TURN))
        elif kind in ("error", "agent.session.failed"):
            fields = fields_of(item)
            session = fields_of(fields.get("session"))
            error = fields.get("error") or session.get("error")
            self._fail(provider_message(error) or "the provider reported an error")

    def flush(self) -> None:
        for turn in self._open.values():
            turn.flush()

    def turn_usage(self, turn: int) -> dict[str, object] | None:
        return next((one.usage() for one in self._open.values() if one.number == turn), None)

    def _read_turn(self, item: Any, what: str) -> None:
        fields = fields_of(item)
        turn = fields_of(fields.get("turn"))
        turn_id = name_of(fields.get("turn_id")) or name_of(turn.get("id"))
        if not turn_id and self._open:
            turn_id = next(reversed(self._open))
        if what in _ENDS:
            open_turn = self._open.pop(turn_id, None)
            if open_turn is not None:
                open_turn.finish_turn(turn, what, fields.get("usage"))
            return
        reader = self._open.get(turn_id)
        if reader is None:
            reader = self._open[turn_id] = _Turn(self, self.next_turn())
        value = fields_of(fields.get("item"))
        if value.get("type") == "command_execution":
            if what == "item.done":
                self._command(reader, value)
        elif value.get("role") != "user":
            reader.feed(with_type(item, f"response.{_ITEMS.get(what, what)}"))

    def _command(self, reader: _Turn, item: Mapping[str, Any]) -> None:
        call_id = name_of(item.get("id"))
        if call_id:
            writer = reader.writer()
            command = {key: item[key] for key in ("command", "cwd") if item.get(key)}
            output = {key: item.get(key) for key in ("output", "exit_code")}
            writer.tool_call("command_execution", call_id, arguments_of(command))
            writer.tool_result(call_id, to_json(output), name="command_execution")

    def _fail(self, message: str) -> None:
        self.flush()
        turns, self._open = self._open, {}
        for turn in turns.values():
            turn.writer().fail(message, usage=turn.usage())
