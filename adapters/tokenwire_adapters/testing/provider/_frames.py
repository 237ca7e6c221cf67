"""A server-sent event of any of the three APIs."""

from __future__ import annotations

from typing import Any, NamedTuple

from tokenwire_adapters.testing.provider._json import dumps

__all__ = ["Frame", "event", "named_event"]


class Frame(NamedTuple):
    """One server-sent event.

    ``choice`` is the choice whose next token it carries; an event without one is not paced.
    """

    data: bytes
    choice: int | None = None


def event(payload: Any, choice: int | None = None) -> Frame:
    """Make an event with data alone (Chat Completions)."""
    return Frame(f"data: {dumps(payload)}\n\n".encode(), choice)


def named_event(payload: dict[str, Any], choice: int | None = None) -> Frame:
    """Make an event that repeats its payload's ``type`` as its name (Responses, Messages)."""
    return Frame(f"event: {payload['type']}\ndata: {dumps(payload)}\n\n".encode(), choice)
