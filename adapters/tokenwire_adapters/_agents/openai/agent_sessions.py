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
_ENDS = frozenset({"completed", "failed", "cancelled"})
_ITEMS = {"item.added": "output_item.added", "item.done": "output_item.done"}
"""Events of a turn that have another name in the Responses API."""

_COMMAND = "command_execution"


class AgentSessionRecorder(SessionRecorder):
    """Reads the events of an agent session: objects of the SDK, or decoded JSON.

    The events of a turn are those of the Responses API under other names, so that its reader reads
    them. The class of an event is not looked at: the SDK gives events that it does not know the
    class of another.
    https://developers.openai.com/api/docs/guides/agents-api/sessions/events
    """

    provider = "openai"
    api = "agents.sessions"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._open: dict[str, _Turn] = {}  # by id

    def read(self, item: Any) -> None:
        fields = fields_of(item)
        kind = name_of(fields.get("type"))
        if kind.startswith(_TURN):
            self._read_turn(item, fields, kind.removeprefix(_TURN))
        elif kind in ("error", "agent.session.failed"):
            session = fields_of(fields.get("session"))
            self._fail_turns(fields.get("error") or session.get("error"))

    def flush(self) -> None:
        for turn in self._open.values():
            turn.flush()

    def turn_usage(self, turn: int) -> dict[str, object] | None:
        return next((one.usage() for one in self._open.values() if one.number == turn), None)

    def _read_turn(self, item: Any, fields: Mapping[str, Any], what: str) -> None:
        body = fields_of(fields.get("turn"))
        turn_id = name_of(fields.get("turn_id")) or name_of(body.get("id"))
        if not turn_id and self._open:
            turn_id = next(reversed(self._open))
        if what in _ENDS:
            turn = self._open.pop(turn_id, None)
            if turn is not None:
                turn.settle(body, what, fields.get("usage"))
            return
        if turn_id not in self._open:
            self._open[turn_id] = _Turn(self)
        if fields_of(fields.get("item")).get("role") != "user":
            self._open[turn_id].feed(with_type(item, f"response.{_ITEMS.get(what, what)}"))

    def _fail_turns(self, error: Any) -> None:
        """End every turn that is under way; others may follow."""
        self.flush()
        turns, self._open = self._open, {}
        message = provider_message(error) or "the provider reported an error"
        for turn in turns.values():
            turn.writer().fail(message, usage=turn.usage())


class _Turn(ResponsesRecorder):
    """Reads the events of one turn, as events of a response, into a writer of the session.

    :ivar number: of the turn, in its session.
    """

    def __init__(self, session: AgentSessionRecorder) -> None:
        super().__init__(session.options, session.request)
        self.number = session.next_turn()
        self._writer = session.writer(self.number)

    def writer(self, index: int = 0) -> ResponseWriter:  # noqa: ARG002
        return self._writer

    def settle(self, turn: Mapping[str, Any], status: str, usage: Any) -> None:
        """End the response as the turn has ended.

        :param turn: the fields of the turn, as the last event has them.
        """
        self._end({**turn, "usage": usage or turn.get("usage")}, status)

    def _other(self, kind: str, item: Any) -> None:
        """Publish a command that the agent ran as a tool call, with its result."""
        fields = fields_of(item)
        call_id = name_of(fields.get("id"))
        if kind != _COMMAND or not call_id:
            super()._other(kind, item)
            return
        command = {name: fields[name] for name in ("command", "cwd") if fields.get(name)}
        output = {name: to_json(fields.get(name)) for name in ("output", "exit_code")}
        self._writer.tool_call(_COMMAND, call_id, arguments_of(command), provider_executed=True)
        self._writer.tool_result(call_id, output, name=_COMMAND)
