"""Chooses how a channel is shown: live where terminal and `rich` allow it, else as plain text."""

from __future__ import annotations

import sys
from typing import Protocol

from tokenwire.events import Event
from tokenwire_adapters._tools.cli.printer import Printer
from tokenwire_adapters._tools.cli.terminal import colours, is_rich

__all__ = ["View", "open_view"]


class View(Protocol):
    """Shows the events of a channel."""

    def show(self, event: Event) -> None:
        """Show what is new in an event."""
        ...

    def close(self) -> None:
        """Stop showing; leave the cursor at the beginning of a line."""
        ...


def open_view(channel: str, *, plain: bool = False) -> View:
    """A view of `channel` on stdout.

    :param plain: no live view, also in a terminal.
    """
    if not plain and is_rich(sys.stdout):
        from tokenwire_adapters._tools.cli.live import LiveView

        return LiveView(channel)
    printer = Printer(sys.stdout, colours=colours(sys.stdout))
    if sys.stdout.isatty():
        printer.waiting(channel)
    return printer
