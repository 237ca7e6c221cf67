"""What the events of a response add up to: the response, its parts, and what its tools answered."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

__all__ = ["ENDED", "Part", "Response", "State", "ToolResult"]

State: TypeAlias = Literal["streaming", "complete", "cancelled", "failed", "abandoned"]
"""The state of a response: under way, or how it ended."""

ENDED: frozenset[str] = frozenset({"complete", "cancelled", "failed", "abandoned"})
"""The states that a response never leaves."""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A typed part of a response.

    :ivar kind: ``text``, ``reasoning``, ``refusal``, ``tool_call``, ``tool_result``, ``source``,
        ``file``, ``data`` or a kind of the producer's own.
    :ivar text: the text so far; for a tool call, its arguments as the model wrote them.
    :ivar name: the tool's name, or the name of a data part.
    :ivar call_id: the tool call's id.
    :ivar data: anything JSON can hold, for kinds that carry it.
    :ivar provider_executed: for a tool call, that the model's provider runs the tool itself:
        neither the agent nor a page is to run it.
    """

    kind: str
    text: str = ""
    name: str | None = None
    call_id: str | None = None
    data: Any = None
    provider_executed: bool = False

    @property
    def arguments(self) -> str:
        """A tool call's arguments: its text."""
        return self.text


class ToolResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tool answered to a call of a response."""

    call_id: str
    name: str | None = None
    output: Any = None
    error: str | None = None


class Response(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reply of a model, as far as it has come.

    :ivar id: chosen by its producer, unique in its channel.
    :ivar run: the agent run it belongs to.
    :ivar state: ``streaming``, then one of ``complete``, ``cancelled``, ``failed``, ``abandoned``.
    :ivar usage: token counts as the provider reported them.
    :ivar error: why it failed, was cancelled or abandoned.
    :ivar started_at: milliseconds since 1970; `ended_at` likewise.
    """

    id: str
    channel: str = ""
    run: str | None = None
    state: State = "streaming"
    parts: tuple[Part, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: str | None = None
    metadata: dict[str, Any] = {}
    started_at: int | None = None
    ended_at: int | None = None

    def _join(self, kind: str) -> str:
        return "".join(part.text for part in self.parts if part.kind == kind)

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return self._join("text")

    @property
    def reasoning(self) -> str:
        """The reasoning parts, joined."""
        return self._join("reasoning")

    @property
    def refusal(self) -> str:
        """The refusal parts, joined."""
        return self._join("refusal")

    @property
    def tool_calls(self) -> tuple[Part, ...]:
        """The parts that are tool calls, in order."""
        return tuple(part for part in self.parts if part.kind == "tool_call")

    @property
    def ended(self) -> bool:
        """Whether the response has ended."""
        return self.state in ENDED
