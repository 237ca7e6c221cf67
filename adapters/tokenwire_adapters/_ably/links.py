"""Connections to Ably: one to publish with, one to watch with, and REST for what is past."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from ably import AblyRealtime, AblyRest

from tokenwire.errors import BackendError, BackendMisconfigured, BackendUnavailable
from tokenwire_adapters._ably.errors import translate
from tokenwire_adapters._ably.options import Settings

__all__ = ["Link", "Rest"]

logger = logging.getLogger("tokenwire")
T = TypeVar("T")

_FAILED_PAUSE = 5.0  # seconds before a connection that Ably refused is tried again


class Link:
    """One realtime connection, made when it is needed and made again when it is beyond repair.

    :param params: further parameters of the connection.
    :ivar generation: rises when the client is made anew; its channels are then gone.
    """

    def __init__(self, settings: Settings, params: dict[str, str], purpose: str) -> None:
        self._settings = settings
        self._params = params
        self._purpose = purpose
        self._client: Any = None
        self._connected = asyncio.Event()
        self._pending: set[asyncio.Task[Any]] = set()
        self._begun: set[asyncio.Task[Any]] = set()
        self._failed: tuple[float, BackendError] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.generation = 0
        self.on_renewed: list[Callable[[], None]] = []
        self.on_lost: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._connected.is_set()

    async def client(self) -> Any:
        """The client, connected.

        :raises BackendUnavailable: when it cannot be connected now.
        """
        if self._failed is not None:
            when, error = self._failed
            if time.monotonic() - when < _FAILED_PAUSE:
                raise error
            self._failed = None
        if self._closed:
            raise BackendUnavailable("the Ably backend is closed")
        if self._client is None:
            self._open()
        if not self._connected.is_set():
            try:
                async with asyncio.timeout(self._settings.connect_timeout):
                    await self._connected.wait()
            except TimeoutError:
                raise BackendUnavailable(f"Ably cannot be reached ({self._purpose})") from None
            if self._failed is not None:
                raise self._failed[1]
        return self._client

    async def channel(self, name: str) -> Any:
        """A channel of the connected client."""
        client = await self.client()
        return client.channels.get(name)

    def _open(self) -> None:
        self.generation += 1
        self._connected.clear()
        try:
            made: Any = AblyRealtime(**self._settings.realtime(self._params))
        except Exception as error:
            refused = translate(error, "making the client")
            self._failed = (time.monotonic(), refused)
            raise refused from None
        self._client = made

        def changed(change: Any) -> None:
            self._changed(made, change)

        made.connection.on(changed)

    def _changed(self, client: Any, change: Any) -> None:
        if client is not self._client:
            return
        state = str(getattr(change.current, "value", change.current))
        if state == "connected":
            self._connected.set()
            return
        was = self._connected.is_set()
        self._connected.clear()
        if state == "failed":
            self._fail(change.reason)
        if was or state == "failed":
            # What was not answered may or may not have arrived: say so at once.
            for task in list(self._pending):
                task.cancel()
            for listener in self.on_lost:
                listener()

    def _fail(self, reason: Any) -> None:
        error = translate(reason, self._purpose) if reason else None
        if not isinstance(error, BackendUnavailable):
            error = BackendMisconfigured(f"Ably refused the connection ({self._purpose})")
        self._failed = (time.monotonic(), error)
        self._discard()
        self._connected.set()  # whoever waits finds the failure
        logger.warning("tokenwire: %s", error)

    def renew(self) -> None:
        """Give up this client, whose state is not to be trusted any more, for a new one."""
        self._discard()
        for listener in self.on_lost:
            listener()
        if not self._closed:
            with suppress(BackendUnavailable):
                self._open()
            for listener in self.on_renewed:
                listener()

    def _discard(self) -> None:
        client, self._client = self._client, None
        self._connected.clear()
        for task in list(self._pending):
            task.cancel()
        if client is not None:
            self.spawn(_close(client))

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something in the background, and keep it."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def post(self, make: Callable[[], Awaitable[T]], what: str) -> asyncio.Task[T]:
        """Begin an operation that Ably answers; operations arrive in the order they are begun.

        The task raises our errors; `BackendUnavailable` also where the outcome is unknown.
        """
        task = asyncio.get_running_loop().create_task(self._operate(make, what))
        self._begun.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._begun.discard(task)
        self._pending.discard(task)
        if not task.cancelled():
            task.exception()  # it is looked at, by whoever awaits the task

    async def _operate(self, make: Callable[[], Awaitable[T]], what: str) -> T:
        generation = self.generation
        task = asyncio.current_task()
        if task is not None:
            # Only from here on may it be cancelled: a task that never ran would be cancelled
            # for good, and not turn that into an error of ours.
            self._pending.add(task)
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await make()
        except TimeoutError:
            # An answer that is late would be taken for that of another message.
            if generation == self.generation:
                self.renew()
            raise BackendUnavailable(f"Ably did not answer in time ({what})") from None
        except asyncio.CancelledError:
            raise BackendUnavailable(f"the connection was lost ({what})") from None
        except Exception as error:
            raise translate(error, what) from error

    async def close(self) -> None:
        """Close the connection."""
        self._closed = True
        client, self._client = self._client, None
        self._connected.clear()
        for task in list(self._pending):
            task.cancel()
        if client is not None:
            await _close(client)
        waiting = [task for task in self._background if task is not asyncio.current_task()]
        if waiting:
            await asyncio.wait(waiting, timeout=2.0)


async def _close(client: Any) -> None:
    state = str(getattr(client.connection.state, "value", client.connection.state))
    with suppress(Exception):
        async with asyncio.timeout(2.0):
            if state in ("failed", "closed"):
                await AblyRest.close(client)
            else:
                await client.close()


class Rest:
    """Ably over REST, for history and for what needs no connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        self._skew: tuple[float, float] | None = None

    @property
    def client(self) -> Any:
        """The client."""
        if self._client is None:
            try:
                self._client = AblyRest(**self._settings.rest())
            except Exception as error:
                raise translate(error, "making the client") from None
        return self._client

    async def ask(self, make: Callable[[Any], Awaitable[T]], what: str) -> T:
        """Make a request; errors are ours."""
        client = self.client
        try:
            async with asyncio.timeout(self._settings.timeout * 2):
                return await make(client)
        except TimeoutError:
            raise BackendUnavailable(f"Ably did not answer in time ({what})") from None
        except Exception as error:
            raise translate(error, what) from error

    async def now(self) -> float:
        """The time by Ably's clock, in milliseconds since 1970."""
        here = time.time() * 1000
        if self._skew is None or time.monotonic() - self._skew[0] > 600:
            there = float(await self.ask(lambda client: client.time(), "asking the time"))
            here = (here + time.time() * 1000) / 2
            self._skew = (time.monotonic(), there - here)
            here = time.time() * 1000
        return here + self._skew[1]

    async def close(self) -> None:
        """Let go of connections."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await client.close()
