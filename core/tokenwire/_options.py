"""Options that several public functions share, and their older spellings."""

from __future__ import annotations

import logging
from typing import Any, Literal, TypeAlias

from tokenwire.errors import InvalidCursor

__all__ = ["OnCancel", "check_lease", "check_page", "check_rollup", "choose_on_cancel", "value_of"]

logger = logging.getLogger("tokenwire")

OnCancel: TypeAlias = Literal["end", "raise"]
"""What a watcher's cancel does to the code that writes: ``"end"``: the response ends, and further
writes return False; ``"raise"``: likewise, but further writes raise `ResponseCancelled`."""

_MAX_ROLLUP = 0.5
_MAX_PAGE = 1000


def choose_on_cancel(
    on_cancel: OnCancel | None, raise_on_cancel: bool | None, default: OnCancel
) -> OnCancel:
    """Resolve `on_cancel` and its older spelling, the bool `raise_on_cancel`.

    :raises ValueError: when both are given, or `on_cancel` is neither ``"end"`` nor ``"raise"``.
    """
    if raise_on_cancel is not None:
        if on_cancel is not None:
            raise ValueError("give on_cancel= only: raise_on_cancel= is its older spelling")
        return "raise" if raise_on_cancel else "end"
    if on_cancel not in (None, "end", "raise"):
        raise ValueError(f"on_cancel must be 'end' or 'raise', not {on_cancel!r}")
    return on_cancel or default


def check_rollup(seconds: float, name: str = "rollup") -> float:
    """Check a rollup window.

    :raises ValueError: when it is not from 0 to 0.5 seconds; older releases took milliseconds.
    """
    if not 0 <= seconds <= _MAX_ROLLUP:
        hint = f"; it was in milliseconds: now {seconds / 1000:g}" if seconds >= 1 else ""
        raise ValueError(f"{name} is in seconds, from 0 to {_MAX_ROLLUP}, not {seconds!r}{hint}")
    return seconds


def check_lease(seconds: float) -> float:
    """Check a lease.

    :raises ValueError: when it is not from 0.05 to 86400 seconds.
    """
    if not 0.05 <= seconds <= 86400:
        raise ValueError(f"lease must be from 0.05 to 86400 seconds, not {seconds!r}")
    return float(seconds)


def check_page(limit: int, before: str | None) -> None:
    """Check which page of history is wanted.

    :raises ValueError: when `limit` is not from 1 to 1000.
    :raises InvalidCursor: when `before` can be no page token.
    """
    if not 1 <= limit <= _MAX_PAGE:
        raise ValueError(f"limit must be from 1 to {_MAX_PAGE}, not {limit!r}")
    if before is not None and not 0 < len(before) <= 512:
        raise InvalidCursor("a page token has 1 to 512 characters")


def value_of(option: Any, name: str) -> Any:
    """An option, or what it returns where it is a function; None where that fails."""
    if not callable(option):
        return option
    try:
        return option()
    except Exception:
        logger.warning("tokenwire: the %s function failed", name, exc_info=True)
        return None
