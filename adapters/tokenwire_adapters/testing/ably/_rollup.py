"""Rollup: appends to one message that come within a window are published as one.

Docs: ai-transport/token-streaming/token-rate-limits ("Message-per-response") and
message-per-response ("Configuring rollup behaviour"): the first append goes out at once, those
that follow within the window together at its end; the window is ``appendRollupWindow``, a
transport parameter from 0 to 500 ms, 40 by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tokenwire_adapters.testing.ably._acks import Outcome
from tokenwire_adapters.testing.ably._errors import AblyError
from tokenwire_adapters.testing.ably._message import Operation

__all__ = ["Rollup", "read_window"]

Publish = Callable[[str, Operation], str | None]


def read_window(value: str | None, default: float, maximum: float) -> float:
    """Return the window in seconds that a connection asks for, in milliseconds.

    :raises AblyError: 40003 if it is no number between 0 and the maximum
    """
    if value is None:
        return default
    if not value.isdigit() or int(value) > maximum * 1000:
        raise AblyError(40003, f"invalid appendRollupWindow: {value!r}")
    return int(value) / 1000


@dataclass(slots=True)
class _Window:
    timer: asyncio.TimerHandle
    merged: Operation | None = None
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    bytes: int = 0


class Rollup:
    """The open windows of one connection, one for each message that it appends to."""

    def __init__(self, window: float, publish: Publish) -> None:
        self.window = window
        self._publish = publish
        self._open: dict[tuple[str, str], _Window] = {}

    def append(self, channel: str, operation: Operation, outcome: Outcome) -> None:
        """Publish an append now, or with others at the end of the window."""
        key = (channel, operation.serial or "")
        window = self._open.get(key)
        if self.window == 0:
            self._out(channel, operation, [outcome])
        elif window is None:
            self._start(key)
            self._out(channel, operation, [outcome])
        else:
            if window.merged is not None and not window.merged.can_merge(operation):
                self.flush(*key)
            merged = window.merged
            window.merged = operation if merged is None else merged.merged_with(operation)
            window.outcomes.append(outcome)
            window.bytes += operation.size()

    def waiting(self, channel: str, serial: str) -> int:
        """Return how many bytes wait to be appended to a message."""
        window = self._open.get((channel, serial))
        return 0 if window is None else window.bytes

    def flush(self, channel: str, serial: str) -> None:
        """Publish the waiting appends of a message at once, since an update of it follows."""
        window = self._open.get((channel, serial))
        if window is None or window.merged is None:
            return
        merged, outcomes = window.merged, window.outcomes
        window.merged, window.outcomes, window.bytes = None, [], 0
        self._out(channel, merged, outcomes)

    def flush_all(self) -> None:
        """Publish all waiting appends, and close the windows."""
        for key in list(self._open):
            self.flush(*key)
            self._open.pop(key).timer.cancel()

    def _start(self, key: tuple[str, str]) -> None:
        loop = asyncio.get_running_loop()
        self._open[key] = _Window(loop.call_later(self.window, self._elapsed, key))

    def _elapsed(self, key: tuple[str, str]) -> None:
        window = self._open[key]
        if window.merged is None:
            del self._open[key]
            return
        loop = asyncio.get_running_loop()
        window.timer = loop.call_later(self.window, self._elapsed, key)
        self.flush(*key)

    def _out(self, channel: str, operation: Operation, outcomes: list[Outcome]) -> None:
        try:
            version = self._publish(channel, operation)
        except AblyError as error:
            for outcome in outcomes:
                outcome.fail(error.info)
            return
        # An append that was superseded before it was published has no version serial (UDR2a).
        for outcome in outcomes[:-1]:
            outcome.succeed([None])
        outcomes[-1].succeed([version])
