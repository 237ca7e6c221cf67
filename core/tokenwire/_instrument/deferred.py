"""Calls made later: on a sink's I/O thread, without waking it each time; when an object goes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from tokenwire.background import call_soon
from tokenwire.sink import Sink

__all__ = ["call_later", "when_dropped"]

_TICK = 0.25  # seconds between looks for what is due
_IDLE_TICKS = 40  # ticks with nothing to wait for before the timer stops

Callback = Callable[[], object]


def call_later(sink: Sink, seconds: float, callback: Callback) -> None:
    """Run `callback` on the I/O thread of `sink` after `seconds`, give or take a tick. Thread-safe.

    Waking a thread costs as much as reading dozens of tokens, and hardly any callback turns out to
    be needed. So a timer ticks while a sink is in use, and runs at its next tick what is due.
    """
    timer = _timers.get(sink)
    if timer is None or timer.process != os.getpid():
        timer = _timers[sink] = _Timer(sink)
    timer.add(time.monotonic() + seconds, callback)


class _Timer:
    """The timer of one sink, in one process."""

    def __init__(self, sink: Sink) -> None:
        self.process = os.getpid()
        self._sink = weakref.ref(sink)
        self._waiting: deque[tuple[float, Callback]] = deque()
        self._ticking = False
        self._idle = 0

    def add(self, when: float, callback: Callback) -> None:
        """Have `callback` run at `when`."""
        self._waiting.append((when, callback))
        sink = self._sink()
        if not self._ticking and sink is not None:
            self._ticking = True
            call_soon(sink, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        due: list[Callback] = []
        waiting = len(self._waiting)
        for _ in range(waiting):
            when, callback = self._waiting.popleft()
            if when > now:
                self._waiting.append((when, callback))
            else:
                due.append(callback)
        self._idle = 0 if waiting else self._idle + 1
        if self._idle > _IDLE_TICKS:
            self._ticking = False
            if not self._waiting:  # else one was added before the flag was cleared
                return
            self._ticking = True
        asyncio.get_running_loop().call_later(_TICK, self._tick)
        for callback in due:
            callback()


_timers: weakref.WeakKeyDictionary[Sink, _Timer] = weakref.WeakKeyDictionary()


def when_dropped(thing: Any, callback: Callback) -> None:
    """Run `callback` once nothing holds `thing` any more; not when the interpreter ends.

    A `weakref.finalize` does the same with five times the work, and a call to a model needs three.
    """

    def dropped(ref: weakref.ref[Any]) -> None:
        del _dropping[id(ref)]
        if not sys.is_finalizing():
            callback()

    ref = weakref.ref(thing, dropped)
    _dropping[id(ref)] = ref


_dropping: dict[int, weakref.ref[Any]] = {}
