"""What completion in a shell or a notebook offers."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["PublicDir"]


class PublicDir:
    """A class whose objects list public names only; the others are there, but not offered."""

    __slots__ = ()

    def __dir__(self) -> Iterable[str]:
        return [name for name in super().__dir__() if not name.startswith("_") or name[:2] == "__"]
