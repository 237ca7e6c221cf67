"""The event stream of an agent session of OpenAI: many turns, each much like a `Response`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tokenwire import ResponseWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.openai.responses import ResponsesRecorder
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.values import dict_of, fields_of, name_of, to_json
from tokenwire_adapters._agents.wires.json_objects import JsonObject
from tokenwire_adapters._agents.wires.turns import forget_ended

__all__ = ["AgentSessionRecorder"]

_TURN = "agent.session.turn."
_NAMES = {"item.added": "output_item.added", "item.done": "output_item.done"}
"""Events of a turn that have another name in the Responses API."""

_ENDS = frozenset({"completed", "failed", "cancelled"})


class AgentSessionRecorder(StainlessRecorder):
    """Reads the events of an agent session; each of its turns is a response.

    The events of a turn are those of the Responses API under other names, so that its reader reads
    them.
    https://developers.openai.com/api/docs/guides/agents-api/sessions/events
    """

    provider = "openai"
    api = "agents.sessions"
    reads_errors: ClassVar[bool] = True

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._turns: dict[str, _Turn] = {}  # those that are open, by id
        self._count = 0

    def begin(self) -> None:
        """Do nothing: a response begins with its turn, and there may be none for long."""

    def read(self, item: Any) -> None:
        fields = fields_of(item)
        kind = name_of(fields.get("type"))
        if kind.startswith(_TURN):
            self._read_turn(kind.removeprefix(_TURN), fields)
        elif kind in ("error", "agent.session.failed"):
            session = fields_of(fields.get("session"))
            error = fields.get("error") or session.get("error") or "the session failed"
            for turn_id in list(self._turns):
                self._end_turn(turn_id, _event("error", error=error))

    def feed_reply(self, reply: Any) -> None:
        """Do nothing: what comes in one piece is a list of past events."""

    def flush(self) -> None:
        for turn in self._turns.values():
            turn.flush()

    def finish(self) -> None:
        for turn in self._turns.values():
            turn.end()

    def _read_turn(self, name: str, fields: Mapping[str, Any]) -> None:
        body = fields_of(fields.get("turn"))
        turn_id = name_of(fields.get("turn_id")) or name_of(body.get("id"))
        turn = self._turns.get(turn_id)
        if turn is None:
            if name in _ENDS:
                return
            forget_ended(self.writers)
            turn = self._turns[turn_id] = _Turn(self, self._count)
            self._count += 1
            turn.begin()
        if name in _ENDS:
            usage = fields.get("usage") or body.get("usage")
            response = {**dict_of(to_json(body)), "status": name, "usage": to_json(usage)}
            self._end_turn(turn_id, _event(name, response=response))
        else:
            turn.feed(_event(_NAMES.get(name, name), **fields))

    def _end_turn(self, turn_id: str, event: Any) -> None:
        turn = self._turns.pop(turn_id)
        turn.feed(event)


class _Turn(ResponsesRecorder):
    """Reads one turn into a writer of the session's recorder."""

    def __init__(self, session: AgentSessionRecorder, number: int) -> None:
        super().__init__(session.options)
        self._session = session
        self._number = number

    def writer(self, index: int = 0) -> ResponseWriter:  # noqa: ARG002
        return self._session.writer(self._number)


def _event(name: str, **fields: Any) -> JsonObject:
    """An event as the Responses API has it; an error has no prefix."""
    return JsonObject({**fields, "type": name if name == "error" else f"response.{name}"})
