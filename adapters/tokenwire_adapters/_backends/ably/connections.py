"""Realtime connections to Ably that replace their client when it is beyond repair, and REST."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

from ably import AblyRealtime, AblyRest

from tokenwire._clock import Outage
from tokenwire._io import retrieve_error
from tokenwire.errors import BackendError, BackendMisconfigured, BackendUnavailable
from tokenwire_adapters._backends.ably.errors import translate
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.quirks import (
    cancel_connect_attempt,
    close_client,
    forget_error_reason,
    repair_client,
    state_of,
)

__all__ = ["RealtimeConnection", "RestClient", "subscribe_channel"]

logger = logging.getLogger("tokenwire")
T = TypeVar("T")

_CONNECT_TIMEOUT = 50003  # Ably's error code
_TOKEN_ERRORS = range(40140, 40150)  # Ably's error codes
_REFUSED_PAUSE = 5.0  # seconds before Ably is asked again after it refused a connection
_CLOSE_TIMEOUT = 2.0  # seconds
_CLOCK_MAX_AGE = 600.0  # seconds before Ably's clock is asked again


class RealtimeConnection:
    """A realtime connection that is opened on first use, with a new client where that is needed.

    :param params: further parameters of the connection.
    :param purpose: what it is for, in errors.
    :ivar on_replaced: called after the client was replaced; the channels of the old one are gone.
    """

    def __init__(self, settings: Settings, params: dict[str, str], purpose: str) -> None:
        self._settings = settings
        self._params = params
        self._purpose = purpose
        self._client: Any = None
        self._generation = 0  # counts clients
        self._settled = asyncio.Event()  # connected, or refused
        self._unanswered: set[asyncio.Task[Any]] = set()  # operations that may be cancelled
        self._operations: set[asyncio.Task[Any]] = set()
        self._refused: tuple[float, BackendError] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._hosts: list[str] = []  # the one in use first
        self._reason: Any = None  # why there is no connection
        self._rejected_tokens = 0  # since the last connection
        self.on_replaced: list[Callable[[], None]] = []

    async def client(self) -> Any:
        """The client, connected.

        :raises BackendUnavailable: when it cannot be connected now.
        :raises BackendMisconfigured: when Ably refuses it.
        """
        if self._refused is not None:
            when, error = self._refused
            if time.monotonic() - when < _REFUSED_PAUSE:
                raise error
            self._refused = None
        if self._closed:
            raise BackendUnavailable("the Ably backend is closed")
        if self._client is None:
            self._open()
        if not self._settled.is_set():
            try:
                hosts = max(1, len(self._hosts))  # each may take as long
                async with asyncio.timeout(self._settings.connect_timeout * hosts):
                    await self._settled.wait()
            except TimeoutError:
                raise self._connect_error() from None
            if self._refused is not None:
                raise self._refused[1]
        return self._client

    def _connect_error(self) -> BackendError:
        """The error for there being no connection."""
        error = None if self._reason is None else translate(self._reason, self._purpose)
        if isinstance(error, BackendMisconfigured):
            return error
        return BackendUnavailable(f"Ably cannot be reached ({self._purpose})")

    async def channel(self, name: str) -> Any:
        """A channel of the connected client."""
        client = await self.client()
        return client.channels.get(name)

    def _open(self) -> None:
        self._generation += 1
        self._settled.clear()
        try:
            client: Any = AblyRealtime(**self._settings.realtime(self._params, self._hosts))
        except Exception as error:
            refused = translate(error, "making the client")
            self._refused = (time.monotonic(), refused)
            raise refused from None
        self._client = client
        self._hosts = self._hosts or list(client.options.get_hosts())
        repair_client(client, self._settings.port)

        def on_state(change: Any) -> None:
            if client is self._client:
                self._on_state(client, state_of(change), change.reason)

        client.connection.on(on_state)

    def _on_state(self, client: Any, state: str, reason: Any) -> None:
        if state == "connected":
            self._reason, self._rejected_tokens = None, 0
            forget_error_reason(client)
            self._settled.set()
            return
        was_connected = self._settled.is_set()
        self._settled.clear()
        if reason is not None:
            self._reason = reason
        if state == "failed":
            self._on_refused(reason)
        elif was_connected:
            self._cancel_operations()
        elif state == "disconnected":
            self._on_not_connected(client, getattr(reason, "code", None))

    def _cancel_operations(self) -> None:
        """Fail the unanswered operations: whether Ably has them is unknown."""
        for task in list(self._unanswered):
            task.cancel()

    def _on_not_connected(self, client: Any, code: object) -> None:
        """Replace the client where it would repeat a failing attempt to connect forever."""
        if code == _CONNECT_TIMEOUT:
            cancel_connect_attempt(client)
            if len(self._hosts) > 1:
                # By itself it goes to a fallback host only from a host without an address.
                self._hosts.append(self._hosts.pop(0))
                self.replace_client()
        elif code in _TOKEN_ERRORS:
            self._rejected_tokens += 1
            if self._rejected_tokens > 1:
                self._rejected_tokens = 0
                self.replace_client()

    def _on_refused(self, reason: Any) -> None:
        error = translate(reason, self._purpose) if reason else None
        if not isinstance(error, BackendUnavailable):
            error = BackendMisconfigured(f"Ably refused the connection ({self._purpose})")
        self._refused = (time.monotonic(), error)
        self._discard_client()
        self._settled.set()
        logger.warning("tokenwire: %s", error)

    def replace_client(self) -> None:
        """Replace a client whose state cannot be trusted any more."""
        self._discard_client()
        if not self._closed:
            with suppress(BackendUnavailable):
                self._open()
            for listener in self.on_replaced:
                listener()

    def _discard_client(self) -> None:
        client, self._client = self._client, None
        self._settled.clear()
        self._cancel_operations()
        if client is not None:
            self.spawn(_close(client))

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in the background; closing the connection waits for it, a while."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def submit(self, operation: Callable[[], Awaitable[T]], what: str) -> asyncio.Task[T]:
        """Begin an operation that Ably acknowledges; operations arrive in the order of the calls.

        The task raises tokenwire's errors; `BackendUnavailable` also where the outcome is unknown.

        :param what: what it does, for errors.
        """
        task = asyncio.get_running_loop().create_task(self._run(operation, what))
        self._operations.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._operations.discard(task)
        self._unanswered.discard(task)
        retrieve_error(task)

    async def _run(self, operation: Callable[[], Awaitable[T]], what: str) -> T:
        generation = self._generation
        task = asyncio.current_task()
        if task is not None:
            # Only from here on may it be cancelled: cancelled before its first step, a task could
            # not turn that into an error.
            self._unanswered.add(task)
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await operation()
        except TimeoutError:
            # ably-python would take a late answer for that of another message.
            if generation == self._generation:
                self.replace_client()
            raise BackendUnavailable(f"Ably did not answer in time ({what})") from None
        except asyncio.CancelledError:
            raise BackendUnavailable(f"the connection was lost ({what})") from None
        except Exception as error:
            raise translate(error, what) from error

    async def close(self) -> None:
        """Close the connection."""
        self._closed = True
        client, self._client = self._client, None
        self._settled.clear()
        self._cancel_operations()
        if client is not None:
            await _close(client)
        tasks = [task for task in self._background if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT)


async def _close(client: Any) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await close_client(client)


async def subscribe_channel(channel: Any, listener: Callable[[Any], None], timeout: float) -> None:
    """Attach a channel, and check that it delivers messages.

    Ably attaches a channel without the capability to subscribe as well.

    :param timeout: seconds.
    :raises BackendError: when it cannot be attached, or does not deliver messages.
    """
    try:
        async with asyncio.timeout(timeout):
            await channel.subscribe(listener)
    except Exception as error:
        what = f"attaching to {channel.name!r} (capability subscribe)"
        raise translate(error, what) from error
    modes = cast("list[Any]", channel.modes or [])
    names = [str(getattr(mode, "name", mode)) for mode in modes]
    if names and "SUBSCRIBE" not in names:
        raise BackendMisconfigured(
            f"subscribing to {channel.name!r}: the key or token lacks the capability subscribe"
            " for this channel: in the Ably dashboard, API Keys, tick subscribe"
        )


def is_away(error: BackendError) -> bool:
    """Whether an error says that Ably does not answer, rather than that it refuses us."""
    return isinstance(error, BackendUnavailable) and not isinstance(error, BackendMisconfigured)


class RestClient:
    """A client for Ably's REST interface, made on first use.

    :ivar outage: when Ably last did not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        self.outage = Outage(settings.timeout)
        self._clock: tuple[float, float] | None = None  # when Ably's was read, and its lead

    async def request(self, send: Callable[[Any], Awaitable[T]], what: str) -> T:
        """Call `send` with the client.

        :param what: what it does, for errors.
        :raises BackendError: in place of any error.
        """
        if self._client is None:
            try:
                self._client = AblyRest(**self._settings.rest())
            except Exception as error:
                raise translate(error, "making the client") from None
        try:
            async with asyncio.timeout(self._settings.timeout * 2):
                return await send(self._client)
        except TimeoutError:
            self.outage.note()
            raise BackendUnavailable(f"Ably did not answer in time ({what})") from None
        except Exception as error:
            translated = translate(error, what)
            if is_away(translated):
                self.outage.note()
            raise translated from error

    async def now(self) -> float:
        """The time by Ably's clock, in milliseconds since 1970."""
        if self._clock is None or time.monotonic() - self._clock[0] > _CLOCK_MAX_AGE:
            before = time.time() * 1000
            there = float(await self.request(lambda client: client.time(), "asking the time"))
            here = (before + time.time() * 1000) / 2
            self._clock = (time.monotonic(), there - here)
        return time.time() * 1000 + self._clock[1]

    async def close(self) -> None:
        """Close the client's connections."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                await client.close()
