"""A thread with a connection of its own, on which a backend runs what reads or writes the file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import queue
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from tokenwire._clock import Backoff
from tokenwire_adapters._backends.sqlite.database import is_busy, open_database, translate
from tokenwire_adapters._backends.sqlite.options import Settings

__all__ = ["File", "Worker"]

logger = logging.getLogger("tokenwire")
T = TypeVar("T")


class File:
    """An open database.

    :ivar epoch: the name of its log, with which cursors begin.
    :ivar number: another one for each connection of this process.
    """

    _numbers = itertools.count()

    def __init__(self, settings: Settings) -> None:
        self.number = next(self._numbers)
        self.db, self.epoch = open_database(settings)
        self._path = settings.path
        self._identity = self._identify()

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    @property
    def is_current(self) -> bool:
        """Whether the path still leads to this file: it was neither removed nor replaced."""
        return self._identity is not None and self._identify() == self._identity


class Worker:
    """Runs functions on a file, one at a time, on a daemon thread that starts with the first.

    :param chores: called between the functions with the same argument: does what is due, and
        returns in how many seconds to call it again; None: after the next function.
    """

    def __init__(
        self, settings: Settings, name: str, chores: Callable[[File], float | None] | None = None
    ) -> None:
        self._settings = settings
        self._name = name
        self._chores = chores
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._file: File | None = None
        self.lock = threading.Lock()  # held while the connection is used
        _workers.add(self)

    async def run(self, function: Callable[[File], T]) -> T:
        """Run `function`, again while others have the file locked, and return what it returns.

        It may be run more than once, so it must change the file in one transaction.

        :raises BackendError: see `translate`; and what else `function` raises.
        """
        return await self._submit(lambda: self._run(function))

    async def close(self) -> None:
        """Close the connection, when what was begun is done, and end the thread."""
        if self._thread is not None:
            await self._submit(self.disconnect)
            self._jobs.put(None)

    async def _submit(self, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(setter: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                setter(value)

        def job() -> None:
            try:
                outcome: tuple[Callable[[Any], None], Any] = (future.set_result, function())
            except BaseException as error:
                outcome = (future.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(settle, *outcome)

        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name=self._name, daemon=True)
            self._thread.start()
        return await future

    def _main(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._do_chores())
            except queue.Empty:
                continue
            if job is None:
                return
            job()

    def _do_chores(self) -> float | None:
        if self._chores is None or self._file is None:
            return None
        try:
            return self._run(self._chores)
        except Exception as error:
            logger.debug("tokenwire: chores of a SQLite file are put off: %s", error)
            return 10.0

    def _run(self, function: Callable[[File], T]) -> T:
        path = self._settings.path
        deadline, backoff = time.monotonic() + self._settings.timeout, Backoff(0.0005, 0.05)
        while True:
            try:
                with self.lock:
                    return function(self._connect())
            except sqlite3.Error as error:
                if not is_busy(error):
                    self.disconnect()  # the next try begins anew
                    raise translate(error, path) from error
                if time.monotonic() > deadline:
                    raise translate(error, path) from error
            except OSError as error:
                raise translate(error, path) from error
            time.sleep(backoff.next())

    def _connect(self) -> File:
        if self._file is not None and not self._file.is_current:
            self._file.db.close()
            self._file = None
        if self._file is None:
            self._file = File(self._settings)
        return self._file

    def disconnect(self, *, keep_lock: bool = False) -> None:
        """Close the connection; another is opened when the next function runs.

        :param keep_lock: let no function run until the caller releases `lock`.
        """
        self.lock.acquire()
        try:
            if self._file is not None:
                self._file.db.close()
                self._file = None
        finally:
            if not keep_lock:
                self.lock.release()


# SQLite keeps, for each file, what it has locked in memory that a child would inherit, though not
# the locks: no connection may be open during a fork (https://sqlite.org/howtocorrupt.html, 2.6).
_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
_forking: list[Worker] = []


def _before_fork() -> None:
    for worker in list(_workers):
        worker.disconnect(keep_lock=True)
        _forking.append(worker)


def _after_fork() -> None:
    while _forking:
        _forking.pop().lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
