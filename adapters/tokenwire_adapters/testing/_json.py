"""Typed access to JSON values that a client sent."""

from __future__ import annotations

from typing import Any, cast

__all__ = ["as_list", "as_object"]


def as_object(value: Any) -> dict[str, Any]:
    """Return the value when it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return the value when it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []
