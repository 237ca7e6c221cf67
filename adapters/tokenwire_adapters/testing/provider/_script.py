"""Replies that a test prescribes, in place of the provider's own texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Finish", "ScriptedError", "ScriptedReply"]

Finish = Literal["stop", "length", "sequence", "tool"]
"""Why a reply ends: it is whole, ``max_tokens`` or a stop sequence cut it, or tools are called."""


@dataclass(frozen=True, kw_only=True)
class ScriptedReply:
    """One reply, exactly as a test wants it; tools, ``max_tokens`` and ``stop`` are ignored.

    :ivar text: the text: a string, which is cut into tokens as a model's tokenizer would, or the
        tokens themselves.
    :ivar reasoning: the reasoning before it, likewise.
    :ivar tool_calls: names and arguments, after the text. Arguments are JSON values; a string is
        sent unchanged, so that it can be malformed JSON.
    :ivar finish: why it ends; None: ``"tool"`` where there are tool calls, else ``"stop"``.
    :ivar disconnect_after: cut the connection after this many tokens, before the reply ends.
    """

    text: str | Sequence[str] = ""
    reasoning: str | Sequence[str] = ""
    tool_calls: Sequence[tuple[str, Any]] = ()
    finish: Finish | None = None
    disconnect_after: int | None = None

    def __post_init__(self) -> None:
        if self.disconnect_after is not None and self.disconnect_after < 0:
            raise ValueError("disconnect_after must be a number of tokens, 0 or more")


@dataclass(frozen=True, kw_only=True)
class ScriptedError:
    """An error answer in place of a reply.

    :ivar status: the HTTP status, 400 to 599.
    :ivar message: what the error's body says.
    :ivar retry_after: seconds, for the header ``retry-after``; None: no such header.
    """

    status: int = 500
    message: str = "The model is not available."
    retry_after: float | None = None

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"status must be from 400 to 599, not {self.status}")
