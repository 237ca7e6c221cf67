"""The messages of Claude's agent SDK: those of one turn are one response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokenwire import ResponseWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.anthropic.messages import MessagesRecorder
from tokenwire_adapters._agents.stainless.sessions import SessionRecorder
from tokenwire_adapters._agents.values import (
    arguments_of,
    dict_of,
    list_of,
    name_of,
    str_of,
    to_json,
)
from tokenwire_adapters._agents.wires.json_objects import JsonObject

__all__ = ["ClaudeAgentRecorder"]

_INTERRUPTED = ("aborted_streaming", "aborted_tools")


class _Message(MessagesRecorder):
    """Reads the raw events of one message of the model, into the turn's response."""

    runs_all_tools = True

    def __init__(self, session: ClaudeAgentRecorder) -> None:
        super().__init__(session.options, session.request)
        self._session = session

    def writer(self, index: int = 0) -> ResponseWriter:  # noqa: ARG002
        return self._session.current()

    def finish(self) -> None:
        self.flush()  # the turn goes on

    def settle_later(self, last: object) -> None:
        """Do nothing: the turn goes on."""


class ClaudeAgentRecorder(SessionRecorder):
    """Reads messages up to each ``ResultMessage``, which ends the turn.

    With ``include_partial_messages`` the model's own events come first, and then the same content
    whole, which is not written again.
    """

    provider = "anthropic"
    api = "claude_agent"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._messages: dict[str | None, _Message] = {}  # by the call of the subagent
        self._streamed: set[str] = set()

    def read(self, item: Any) -> None:
        kind = type(item).__name__
        if kind == "StreamEvent":
            self._event(_objects(item.event), item.parent_tool_use_id)
        elif kind == "AssistantMessage":
            message_id = getattr(item, "message_id", None)
            is_streamed = message_id in self._streamed or (not message_id and bool(self._streamed))
            if not is_streamed:
                for block in list_of(item.content):
                    self._block(block)
        elif kind == "UserMessage":
            for block in list_of(item.content):
                if type(block).__name__ == "ToolResultBlock":
                    self._tool_result(block)
        elif kind == "ResultMessage":
            self._end_turn(item)

    def _event(self, event: Any, subagent: str | None) -> None:
        if getattr(event, "type", None) == "message_start":
            self._messages[subagent] = _Message(self)
            self._streamed.add(name_of(getattr(getattr(event, "message", None), "id", None)))
        message = self._messages.get(subagent)
        if message is not None:
            message.feed(event)

    def _block(self, block: Any) -> None:
        kind = type(block).__name__
        if kind == "TextBlock":
            self.current().part("text", text=str_of(block.text))
        elif kind == "ThinkingBlock" and block.thinking:
            self.current().part("reasoning", text=str_of(block.thinking))
        elif kind in ("ToolUseBlock", "ServerToolUseBlock"):
            # Claude Code runs its tools; who asked it is not to.
            self.current().tool_call(
                block.name, block.id, arguments_of(block.input), provider_executed=True
            )
        elif kind == "ServerToolResultBlock":
            self._tool_result(block)

    def _tool_result(self, block: Any) -> None:
        error = "the tool failed" if getattr(block, "is_error", False) else None
        self.current().tool_result(block.tool_use_id, to_json(block.content), error=error)

    def _end_turn(self, result: Any) -> None:
        writer = self.current()
        usage = dict_of(to_json(result.usage)) or None
        reason = name_of(result.stop_reason) or name_of(result.subtype) or None
        if getattr(result, "terminal_reason", None) in _INTERRUPTED:
            writer.cancel("it was interrupted", finish_reason=reason, usage=usage)
        elif result.is_error:
            errors = [str_of(error) for error in list_of(getattr(result, "errors", None))]
            message = "; ".join(errors) or str_of(result.result) or str_of(result.subtype)
            writer.fail(message, finish_reason=reason, usage=usage)
        else:
            writer.finish(reason, usage)
        self._turn = None
        self._messages.clear()
        self._streamed.clear()
        self.cancelled = False  # a cancel is of one turn


def _objects(value: Any) -> Any:
    """JSON, with attributes."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return JsonObject({key: _objects(item) for key, item in fields.items()})
    if isinstance(value, list):
        return [_objects(item) for item in cast("list[Any]", value)]
    return value
