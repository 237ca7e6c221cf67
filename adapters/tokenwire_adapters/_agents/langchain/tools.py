"""Runs of tools, and what they return."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple, cast
from uuid import UUID

from tokenwire_adapters._agents.calls import drop_oldest
from tokenwire_adapters._agents.langchain.quirks import is_interrupt

__all__ = ["ToolOutcome", "ToolRuns"]


class ToolRuns:
    """Which tool call each run of a tool is for; the first handler that sees it reports its end.

    :ivar running: the handler and the tool call's id, by run.
    """

    def __init__(self) -> None:
        self.running: dict[int, tuple[object, str]] = {}
        self._lock = threading.Lock()

    def start(self, run_id: UUID, handler: object, call_id: str) -> None:
        """Enter a run that starts."""
        with self._lock:
            if self.running.setdefault(run_id.int, (handler, call_id))[0] is handler:
                drop_oldest(self.running)

    def end(
        self, run_id: UUID, handler: object, output: Any, error: BaseException | None
    ) -> ToolOutcome | None:
        """Remove a run that has ended; its outcome, or None where `handler` has none to publish."""
        with self._lock:
            run = self.running.get(run_id.int)
            if run is None or run[0] is not handler:
                return None
            del self.running[run_id.int]
        call_id = run[1]
        if error is None:
            return _outcome(call_id, output)
        if is_interrupt(error):
            return None
        return ToolOutcome(call_id, None, str(error) or type(error).__name__, None)


class ToolOutcome(NamedTuple):
    """What a tool returned or raised."""

    call_id: str
    output: Any
    error: str | None
    name: str | None


def _outcome(call_id: str, output: Any) -> ToolOutcome:
    message = _tool_message(output, call_id)
    if message is None:
        return ToolOutcome(call_id, output, None, None)
    content = getattr(message, "content", output)
    name = getattr(message, "name", None)
    if getattr(message, "status", None) == "error":
        return ToolOutcome(call_id, None, str(content), name)
    return ToolOutcome(call_id, content, None, name)


def _tool_message(output: Any, call_id: str) -> Any:
    """The `ToolMessage` that answers `call_id` in what a tool returned, if there is one."""
    if getattr(output, "tool_call_id", None) == call_id:
        return output
    update: Any = getattr(output, "update", None)  # LangGraph's `Command`
    messages: Any = output
    if isinstance(update, dict):
        messages = cast("dict[str, Any]", update).get("messages")
    for item in cast("list[Any]", messages) if isinstance(messages, list | tuple) else ():
        if getattr(item, "tool_call_id", None) == call_id:
            return item
        nested = _tool_message(item, call_id) if hasattr(item, "update") else None
        if nested is not None:
            return nested
    return None
