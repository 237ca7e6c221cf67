"""The I/O thread: one event loop of the sink's own, which owns every backend client."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tokenwire.errors import SinkClosed

__all__ = ["IoThread", "on_io_thread", "require_asyncio", "result_of", "retrieve_error"]

logger = logging.getLogger("tokenwire")
T = TypeVar("T")
_NO_ASYNCIO = (
    "the asynchronous methods of tokenwire run on asyncio only: under trio, use the blocking ones,"
    " such as `for` in place of `async for`, in a thread (anyio.to_thread.run_sync)"
)
_left_behind: list[object] = []
_this_thread = threading.local()


def on_io_thread() -> bool:
    """Whether the caller runs on the I/O thread of any sink."""
    return getattr(_this_thread, "is_io", False)


def require_asyncio() -> None:
    """Check that the caller runs on a loop of asyncio.

    :raises RuntimeError: where none runs, but another library, such as trio, drives coroutines.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(_NO_ASYNCIO) from None


class IoThread:
    """Runs coroutines on a loop of its own, started on first use. Thread-safe.

    :param at_end: runs last, after all other tasks; its owner lives as long as the thread.
    """

    def __init__(self, *, at_end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._at_end = at_end
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def after_fork(self) -> None:
        """The parent's thread is not here: start a new one on next use, unless it was stopped."""
        # The loop's epoll object is shared with the parent: closing the loop here, as its
        # finalizer might, would unregister the parent's sockets. So it is kept, never closed.
        _left_behind.append(self._loop)
        stopped = self._stopped
        self._reset()
        self._stopped = stopped

    @property
    def running(self) -> bool:
        """Whether the thread has been started and not stopped."""
        return self._loop is not None and not self._stopped

    @property
    def here(self) -> bool:
        """Whether the caller is on this thread."""
        return threading.current_thread() is self._thread

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, starting the thread if need be.

        :raises SinkClosed: after `stop`.
        """
        loop = self._loop
        if loop is not None and not self._stopped:
            return loop
        with self._lock:
            if self._stopped:
                raise SinkClosed("this sink is closed; open a new one")
            if self._loop is None:
                ready = threading.Event()
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._main, args=(loop, ready), name="tokenwire-io", daemon=True
                )
                self._thread.start()
                ready.wait()
                self._loop = loop
            return self._loop

    def _main(self, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
        _this_thread.is_io = True
        asyncio.set_event_loop(loop)
        loop.call_soon(ready.set)
        try:
            loop.run_forever()
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            pending = asyncio.all_tasks(loop)
            if pending:
                loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            loop.run_until_complete(self._at_end())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` on the loop, soon."""
        try:
            self.loop().call_soon_threadsafe(function, *args)
        except RuntimeError as error:  # closed between the look and the call
            raise SinkClosed("this sink is closed; open a new one") from error

    def call_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Do what `call` does, but nothing once the thread was stopped."""
        try:
            self.call(function, *args)
        except SinkClosed:
            logger.debug("tokenwire: closed before %r could be called", function)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task, from this thread only, and hold on to it until it is done."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run `coroutine` on the loop; its result comes in a thread's future."""
        try:
            loop = self.loop()
        except SinkClosed:
            coroutine.close()
            raise
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run `coroutine` on the loop and wait for it here.

        :raises RuntimeError: when called on the I/O thread itself, which would wait for ever.
        :raises TimeoutError: after `timeout` seconds; the coroutine is cancelled.
        """
        if self.here:
            coroutine.close()
            raise RuntimeError("this blocks: use the async form in callbacks of the I/O thread")
        future = self.submit(coroutine)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            if not future.done():
                future.cancel()
                raise TimeoutError(f"no answer within {timeout:g} s") from None
            raise
        except concurrent.futures.CancelledError:
            raise SinkClosed("this sink was closed meanwhile") from None

    async def arun(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the loop and await it here, on any loop of asyncio.

        :raises RuntimeError: where asyncio does not run, but another library, such as trio.
        """
        if self.here:
            return await coroutine
        try:
            require_asyncio()
        except RuntimeError:
            coroutine.close()
            raise
        future = self.submit(coroutine)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and not (task and task.cancelling()):
                # Not the caller was cancelled, but the loop there stopped.
                raise SinkClosed("this sink was closed meanwhile") from None
            raise

    def stop(self, timeout: float | None = None) -> None:
        """Stop the loop and wait for the thread to end. Idempotent."""
        with self._lock:
            self._stopped = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        try:
            loop.call_soon_threadsafe(loop.stop)
        except RuntimeError:
            return
        if thread is not threading.current_thread():
            thread.join(timeout)


async def result_of(task: asyncio.Task[T]) -> T:
    """Await a task that others await as well; it goes on when this wait is cancelled."""
    try:
        # Not `shield`, which (Python 3.14) reports an error that nobody is left to see.
        await asyncio.wait((task,))
    except asyncio.CancelledError:
        task.add_done_callback(retrieve_error)
        raise
    return task.result()


def retrieve_error(task: asyncio.Task[Any]) -> None:
    """Take note of a task's error, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
