"""The entry points of installed packages, read again only when what is installed may have changed.

`importlib.metadata` reads every package's list each time, which takes some 6 ms with 200 packages.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["plugins"]


def plugins(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group, by name; of two with one name, the first on the path."""
    # Programs put paths of pathlib there, too, which Python passes over.
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return _read(group, tuple((entry, _changed(entry)) for entry in path))


def _changed(entry: str) -> int:
    """When a package was last put into, or taken from, an entry of the path."""
    try:
        return os.stat(entry or os.curdir).st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=8)
def _read(group: str, _path: tuple[tuple[str, int], ...]) -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # which takes as long to load as all the rest

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, point)
    return found
