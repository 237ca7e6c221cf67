"""Replies that a test prescribes, in place of the provider's own texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

__all__ = [
    "Finish",
    "Interruption",
    "ScriptedError",
    "ScriptedRecording",
    "ScriptedReply",
    "interruption_of",
    "pieces_of",
]

Finish = Literal["stop", "length", "sequence", "tool"]
"""Why a reply ends: it is whole, ``max_tokens`` or a stop sequence cut it, or tools are called."""


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


class Interruption(NamedTuple):
    """Where a reply breaks off, and how: by an error of the API, or without a word."""

    after: int
    how: Literal["disconnect", "stall"] | ScriptedError


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
    :ivar stall_after: send nothing more after this many tokens, until the client goes away.
    :ivar error_after: after this many tokens, send `error` as the API does midway in a stream (a
        whole reply is answered with it; Bedrock's stream is cut).
    :ivar error: that error.
    """

    text: str | Sequence[str] = ""
    reasoning: str | Sequence[str] = ""
    tool_calls: Sequence[tuple[str, Any]] = ()
    finish: Finish | None = None
    disconnect_after: int | None = None
    stall_after: int | None = None
    error_after: int | None = None
    error: ScriptedError = ScriptedError()

    def __post_init__(self) -> None:
        names = ("disconnect_after", "stall_after", "error_after")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if len(given) > 1:
            raise ValueError(f"a reply breaks off once: give one of {', '.join(given)}")
        for name, value in given.items():
            if value < 0:
                raise ValueError(f"{name} must be a number of tokens, 0 or more")


def interruption_of(reply: ScriptedReply) -> Interruption | None:
    """Where the reply breaks off, and how; None where it does not."""
    if reply.disconnect_after is not None:
        return Interruption(reply.disconnect_after, "disconnect")
    if reply.stall_after is not None:
        return Interruption(reply.stall_after, "stall")
    if reply.error_after is not None:
        return Interruption(reply.error_after, reply.error)
    return None


@dataclass(frozen=True)
class ScriptedRecording:
    """A reply that was recorded: the bytes of a file, unchanged, event by event.

    :ivar path: the file, as the provider sent it: ``.sse`` for an event stream, ``.json`` for a
        whole reply, ``.ndjson`` for JSON lines.
    """

    path: str | Path

    def __post_init__(self) -> None:
        if self.content_type is None:
            known = ", ".join(_TYPES)
            raise ValueError(f"a recording is a file of a type among {known}, not {self.path}")
        if not Path(self.path).is_file():
            raise ValueError(f"there is no recording {self.path}")

    @property
    def content_type(self) -> str | None:
        """The content type that the file's name says."""
        return _TYPES.get(Path(self.path).suffix)


def pieces_of(recording: ScriptedRecording) -> list[bytes]:
    """The bytes of a recording, cut after each event or line."""
    data = Path(recording.path).read_bytes()
    if recording.content_type == "application/json":
        return [data]
    end = rb"\r?\n\r?\n" if recording.content_type == "text/event-stream" else rb"\n"
    return re.findall(rb".+?(?:%b|\Z)" % end, data, re.DOTALL)


_TYPES = {
    ".sse": "text/event-stream",
    ".json": "application/json",
    ".ndjson": "application/x-ndjson",
}
