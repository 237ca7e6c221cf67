"""One piece of a stream, of any of the APIs."""

from __future__ import annotations

from typing import Any, NamedTuple

from tokenwire_adapters.testing.provider._json import dumps

__all__ = ["Frame", "event", "line", "named_event"]


class Frame(NamedTuple):
    """One event of a stream: a server-sent event, a line or a binary frame.

    ``choice`` is the choice whose next ``tokens`` tokens it carries; an event without one is not
    paced.
    """

    data: bytes
    choice: int | None = None
    tokens: int = 1


def event(payload: Any, choice: int | None = None, tokens: int = 1) -> Frame:
    """Make a server-sent event with data alone (Chat Completions, Cohere, Gemini, Mistral)."""
    return Frame(f"data: {dumps(payload)}\n\n".encode(), choice, tokens)


def line(payload: Any, choice: int | None = None, tokens: int = 1) -> Frame:
    """Make a line of newline-delimited JSON (Ollama)."""
    return Frame(f"{dumps(payload)}\n".encode(), choice, tokens)


def named_event(payload: dict[str, Any], choice: int | None = None) -> Frame:
    """Make an event that repeats its payload's ``type`` as its name (Responses, Messages)."""
    return Frame(f"event: {payload['type']}\ndata: {dumps(payload)}\n\n".encode(), choice)
