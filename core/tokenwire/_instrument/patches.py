"""Replacing methods of another package's classes, and putting them back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["Patches"]


class Patches:
    """The methods that were replaced, each once."""

    def __init__(self) -> None:
        self._patches: list[tuple[type, str, Any, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._patches)

    def replace(self, owner: type, name: str, wrapper: Callable[[Any], Any]) -> None:
        """Replace method `name` of `owner` by what `wrapper` makes of it.

        Does nothing where it is replaced already, or where `owner` itself has no such method.
        """
        if any(patch[0] is owner and patch[1] == name for patch in self._patches):
            return
        original = vars(owner).get(name)
        if original is None:
            return
        replacement = functools.wraps(original)(wrapper(original))
        setattr(owner, name, replacement)
        self._patches.append((owner, name, original, replacement))

    def restore(self) -> None:
        """Put back what was there, where nobody else has patched over it."""
        kept: list[tuple[type, str, Any, Any]] = []
        for owner, name, original, replacement in reversed(self._patches):
            if vars(owner).get(name) is replacement:
                setattr(owner, name, original)
            else:
                kept.append((owner, name, original, replacement))
        self._patches = kept
