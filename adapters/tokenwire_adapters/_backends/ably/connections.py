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
from tokenwire_adapters._backends.ably.errors import translate
from tokenwire_adapters._backends.ably.options import Settings, without_port

__all__ = ["Link", "Rest"]

logger = logging.getLogger("tokenwire")
T = TypeVar("T")

_NO_ANSWER = 50003  # Ably's error for a connection that was not made in time
_TOKEN = 4014  # 40140 to 40149: the token is the trouble
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
        self._hosts: list[str] = []  # the one in use first
        self._reason: Any = None  # why there is no connection
        self._stale = 0  # tokens that were refused since there was a connection
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
                hosts = max(1, len(self._hosts))  # each has its time
                async with asyncio.timeout(self._settings.connect_timeout * hosts):
                    await self._connected.wait()
            except TimeoutError:
                raise self._why() from None
            if self._failed is not None:
                raise self._failed[1]
        return self._client

    def _why(self) -> BackendError:
        """Why there is no connection."""
        error = None if self._reason is None else translate(self._reason, self._purpose)
        if isinstance(error, BackendMisconfigured):
            return error
        return BackendUnavailable(f"Ably cannot be reached ({self._purpose})")

    async def channel(self, name: str) -> Any:
        """A channel of the connected client."""
        client = await self.client()
        return client.channels.get(name)

    def _open(self) -> None:
        self.generation += 1
        self._connected.clear()
        try:
            made: Any = AblyRealtime(**self._settings.realtime(self._params, self._hosts))
        except Exception as error:
            refused = translate(error, "making the client")
            self._failed = (time.monotonic(), refused)
            raise refused from None
        self._client = made
        self._hosts = self._hosts or list(made.options.get_hosts())
        _mend(made.connection.connection_manager)
        if self._settings.port:
            # Realtime wants the port in the host, requests (for tokens) want it beside.
            made.http.get_hosts = lambda: [without_port(host) for host in made.options.get_hosts()]

        def changed(change: Any) -> None:
            self._changed(made, change)

        made.connection.on(changed)

    def _changed(self, client: Any, change: Any) -> None:
        if client is not self._client:
            return
        state = str(getattr(change.current, "value", change.current))
        if state == "connected":
            self._reason, self._stale = None, 0
            # It keeps the reason of an earlier loss, and renews no token where that was a token.
            client.connection.connection_manager._ConnectionManager__error_reason = None
            self._connected.set()
            return
        was = self._connected.is_set()
        self._connected.clear()
        if change.reason is not None:
            self._reason = change.reason
        if state == "failed":
            self._fail(change.reason)
        if was or state == "failed":
            # What was not answered may or may not have arrived: say so at once.
            for task in list(self._pending):
                task.cancel()
            for listener in self.on_lost:
                listener()
        elif state == "disconnected":
            self._not_connected(client, getattr(change.reason, "code", None))

    def _not_connected(self, client: Any, code: object) -> None:
        """Help the client where it would try the same again and again."""
        trying = client.connection.connection_manager.connect_base_task
        if code == _NO_ANSWER and trying is not None:
            trying.cancel()  # it would wait for ever
        if code == _NO_ANSWER and len(self._hosts) > 1:
            # It goes to a fallback host only from one whose name is not known.
            self._hosts.append(self._hosts.pop(0))
            self.renew()
        elif isinstance(code, int) and code // 10 == _TOKEN:
            self._stale += 1
            if self._stale > 1:
                self._stale = 0
                self.renew()

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


def _mend(manager: Any) -> None:
    """Have ably-python's connection do what ours needs."""

    def reachable() -> bool:
        return True

    # Before it tries a fallback host, it asks over HTTP whether there is internet, and everything
    # on this loop waits meanwhile. Trying the host tells as much.
    manager.check_connection = reachable
    usual = manager.on_disconnected

    async def on_disconnected(error: Any) -> None:
        if error is not None and 500 <= error.status_code <= 504:
            # It would go on saying that it is connected, and try fallback hosts or nothing at all.
            error.status_code = 400
        await usual(error)

    manager.on_disconnected = on_disconnected


async def _nothing() -> None:
    pass


async def _close(client: Any) -> None:
    state = str(getattr(client.connection.state, "value", client.connection.state))
    with suppress(Exception):
        transport = client.connection.connection_manager.transport
        if transport is not None and transport.websocket is None:
            transport.close = _nothing  # it would fail, in a task that nobody looks at
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
