"""Which files of tokenwire a token enters, and which docs/architecture.md says that it does."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

import tokenwire
import tokenwire_adapters

ROOT = Path(__file__).resolve().parent.parent.parent
TRIES = 50
"""How many tokens are traced until one took the way that is looked for: others meet a timer."""

_OURS = tuple(
    f"{Path(package).parent}{os.sep}"
    for package in (tokenwire.__file__, tokenwire_adapters.__file__)
)


def documented(way: str) -> list[str]:
    """The files on a way of a token, from the table in docs/architecture.md."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    row = re.search(rf"^\| {re.escape(way)} \| (\d+) \| (.+) \|$", page, re.MULTILINE)
    assert row is not None, f"no row for {way!r}"
    files = re.findall(r"`(.+?)`", row[2])
    assert len(files) == int(row[1]), f"{way}: {row[1]} files, and {len(files)} are named"
    return files


class Trace:
    """The files of core and adapters in which something runs: of this thread, and of new ones.

    :ivar files: their names, in order.
    """

    def __init__(self) -> None:
        self.files: list[str] = []
        self._on = False

    def __enter__(self) -> Self:
        threading.setprofile(self._see)
        return self

    def __exit__(self, *exc: object) -> None:
        threading.setprofile(None)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Look at what runs meanwhile."""
        self.files = []
        self._on = True
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)
            self._on = False

    @staticmethod
    def pause_here() -> None:
        """Look at other threads only, from here on."""
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not self._on:
            return
        for folder in _OURS:
            if frame.f_code.co_filename.startswith(folder):
                name = frame.f_code.co_filename.removeprefix(folder).removesuffix(".py")
                if name not in self.files:
                    self.files.append(name)
