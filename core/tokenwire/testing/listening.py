"""Which layers record what models say in this process, for the message of a failed test."""

from __future__ import annotations

import sys

from tokenwire._plugins import plugins

__all__ = ["listening_layers"]

_GROUP = "tokenwire.instrumentors"


def listening_layers() -> list[str]:
    """A line for each SDK or framework that is imported and has an instrumentor."""
    lines: list[str] = []
    for name, point in sorted(plugins(_GROUP).items()):
        if name not in sys.modules:
            continue
        if point.value.partition(":")[0] not in sys.modules:
            lines.append(f"{name}: imported, and nothing reads it")
            continue
        recording = getattr(point.load(), "recording", None)
        lines.append(f"{name}: {recording or 'no client that is known'}")
    return lines
