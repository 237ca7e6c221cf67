"""Failed requests that are likely to be sent again: both attempts are one response.

SDKs answer a status such as 429 with a further request. Their users see one call, and so do those
who watch: a failed attempt waits a while for the next one, and fails if there is none.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenwire.instrument import Recorder, call_later

__all__ = ["RETRIES", "Attempt", "Retries", "is_retried", "this_caller"]

_PATIENCE = 15.0
"""Seconds that a failed attempt waits for the next one, beside what the server asks for."""

_MAX_WAIT = 120.0
_STATUSES = frozenset({408, 409, 425, 429})


def is_retried(status: int) -> bool:
    """Whether SDKs send a request again that was answered so."""
    return status >= 500 or status in _STATUSES


def this_caller() -> Hashable:
    """The task, or else the thread, that sends a request: it sends the next attempt as well."""
    task = _this_task()
    return (threading.get_ident(), id(task) if task is not None else None)


def _this_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What two attempts of one call have in common.

    :ivar caller: the task or thread, see `this_caller`.
    :ivar content: the body of the request, and the context that it belongs to. The address may be
        another: after a redirect, say.
    """

    caller: Hashable
    content: Hashable


@dataclass(eq=False, slots=True)
class _Failed:
    """A failed attempt that waits."""

    content: Hashable
    recorder: Recorder
    fail: Callable[[], object]
    is_over: bool = field(default=False)


class Retries:
    """The failed attempts that wait for the next one, at most one for each caller. Thread-safe."""

    def __init__(self) -> None:
        self._failed: dict[Hashable, _Failed] = {}
        self._lock = threading.Lock()
        self._at_exit = False

    def hold(
        self,
        attempt: Attempt,
        recorder: Recorder,
        fail: Callable[[], object],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Wait for another attempt of the same call; without one, call `fail`.

        :param headers: of the reply, by lower-case names.
        """
        sink = recorder.sink
        if sink is None:
            fail()
            return
        self.give_up(attempt.caller)
        failed = _Failed(attempt.content, recorder, fail)
        with self._lock:
            self._failed[attempt.caller] = failed
            if (
                not self._at_exit
            ):  # runs before the default sink is closed, which was opened earlier
                self._at_exit = True
                atexit.register(self.give_up_all)
        call_later(sink, _wait_of(headers or {}), lambda: self._finish(attempt.caller, failed))
        task = _this_task()
        if task is not None:
            task.add_done_callback(lambda _: self._finish(attempt.caller, failed))

    def adopt(self, attempt: Attempt) -> Recorder | None:
        """The recorder of the failed attempt that this one repeats.

        The caller's next request, whichever it is, shows what has become of the one that failed.
        """
        with self._lock:
            failed = self._failed.pop(attempt.caller, None)
            if failed is None:
                return None
            is_repeated = failed.content == attempt.content and not failed.recorder.ended
            if is_repeated:
                failed.is_over = True
        if not is_repeated:
            self._fail(failed)
            return None
        return failed.recorder

    def give_up(self, caller: Hashable) -> None:
        """Fail the attempt of a caller, if there is one."""
        with self._lock:
            failed = self._failed.pop(caller, None)
        if failed is not None:
            self._fail(failed)

    def give_up_all(self) -> None:
        """Fail every attempt that waits: the program ends."""
        for caller in list(self._failed):
            self.give_up(caller)

    def _finish(self, caller: Hashable, failed: _Failed) -> None:
        with self._lock:
            if self._failed.get(caller) is failed:
                del self._failed[caller]
        self._fail(failed)

    def _fail(self, failed: _Failed) -> None:
        if not failed.is_over:
            failed.is_over = True
            failed.fail()


def _wait_of(headers: Mapping[str, str]) -> float:
    try:
        asked = float(headers.get("retry-after") or 0)
    except ValueError:  # a date
        asked = 0.0
    return min(max(asked, 0.0) + _PATIENCE, _MAX_WAIT)


RETRIES = Retries()
