"""Doing something a little later on a sink's I/O thread, without waking that thread each time."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections import deque
from collections.abc import Callable

from tokenwire import Sink, background

__all__ = ["after"]

_TICK = 0.25  # seconds between looks
_LINGER = 40  # looks at nothing before the clock stops

Step = Callable[[], object]


def after(sink: Sink, seconds: float, step: Step) -> None:
    """Run `step` on the I/O thread of `sink` after `seconds`, give or take a tick. Thread-safe.

    Waking a thread costs as much as reading dozens of tokens, and hardly any step turns out to be
    needed. So a clock ticks while a sink is in use, and finds at its next tick what is due.
    """
    clock = _clocks.get(sink)
    if clock is None or clock.process != os.getpid():
        clock = _clocks[sink] = _Clock(sink)
    clock.add(time.monotonic() + seconds, step)


class _Clock:
    """The clock of one sink, in one process."""

    def __init__(self, sink: Sink) -> None:
        self.process = os.getpid()
        self._sink = weakref.ref(sink)
        self._waiting: deque[tuple[float, Step]] = deque()
        self._ticking = False
        self._idle = 0

    def add(self, when: float, step: Step) -> None:
        """Have `step` run at `when`."""
        self._waiting.append((when, step))
        sink = self._sink()
        if not self._ticking and sink is not None:
            self._ticking = True
            background.call_soon(sink, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        due: list[Step] = []
        found = len(self._waiting)
        for _ in range(found):
            when, step = self._waiting.popleft()
            if when > now:
                self._waiting.append((when, step))
            else:
                due.append(step)
        self._idle = 0 if found else self._idle + 1
        if self._idle > _LINGER:
            self._ticking = False
            if not self._waiting:  # else one was added between the look and the flag
                return
            self._ticking = True
        asyncio.get_running_loop().call_later(_TICK, self._tick)
        for step in due:
            step()


_clocks: weakref.WeakKeyDictionary[Sink, _Clock] = weakref.WeakKeyDictionary()
