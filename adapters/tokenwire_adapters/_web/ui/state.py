"""What a client was told of a run's responses and their parts."""

from __future__ import annotations

from typing import Any

from tokenwire.events import ENDED, State, ToolResult

__all__ = ["ENVELOPE", "Piece", "Told", "is_envelope"]

ENVELOPE = "tokenwire.run"
"""The metadata field that marks the response which stands for a whole run."""

_TOOL_REASONS = frozenset({"tool_calls", "tool_use", "tool-calls", "function_call"})
_TEXTUAL = frozenset({"text", "reasoning", "refusal"})


def is_envelope(response_id: str, run: str | None, metadata: dict[str, Any]) -> bool:
    """Whether a response stands for its whole run: it is open for as long as the run is."""
    return run == response_id and ENVELOPE in metadata


class Piece:
    """A part of a response, as far as the client was told of it.

    :ivar length: code points told; `text` has them where they are needed at the end.
    :ivar open: something of it was begun at the client and not ended.
    :ivar done: all of it was told.
    :ivar tag: what the client calls it.
    """

    __slots__ = (
        "call_id",
        "data",
        "done",
        "index",
        "kind",
        "length",
        "name",
        "open",
        "result",
        "tag",
        "text",
    )

    def __init__(
        self, index: int, kind: str, name: str | None, call_id: str | None, data: Any
    ) -> None:
        self.index = index
        self.kind = kind
        self.name = name
        self.call_id = call_id
        self.data = data
        self.length = 0
        self.open = False
        self.done = False
        self.tag = ""
        self.result: ToolResult | None = None
        self.text: list[str] | None = None if kind in _TEXTUAL else []

    @property
    def whole_text(self) -> str:
        """The text of a part that is not of the textual kinds."""
        return "".join(self.text or ())


class Told:
    """A response, as far as the client was told of it."""

    __slots__ = (
        "answered",
        "call_ids",
        "channel",
        "envelope",
        "error",
        "finish_reason",
        "id",
        "metadata",
        "pieces",
        "state",
        "usage",
    )

    def __init__(
        self, response_id: str, run: str | None, metadata: dict[str, Any], channel: str
    ) -> None:
        self.id = response_id
        self.channel = channel
        self.metadata = metadata
        self.envelope = is_envelope(response_id, run, metadata)
        self.state: State = "streaming"
        self.pieces: list[Piece] = []
        self.call_ids: dict[str, Piece] = {}
        self.answered: set[str] = set()
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.error: str | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def awaits(self) -> bool:
        """Whether it ended by asking for tools, so that the run goes on."""
        if self.state != "complete" or not self.call_ids:
            return False
        return self.finish_reason in _TOOL_REASONS or not self.answered >= self.call_ids.keys()
