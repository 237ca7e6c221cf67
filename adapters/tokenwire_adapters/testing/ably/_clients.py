"""Ably's own Python clients, connected to a local server, and a subscriber as documented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from ably import AblyRealtime, AblyRest
from ably.types.message import MessageAction

from tokenwire_adapters.testing.ably._quirks import close_realtime, ignore_sdk_tasks
from tokenwire_adapters.testing.ably._server import AblyServer

__all__ = ["Subscriber", "realtime", "rest"]

_TIMEOUT = 60.0  # seconds; machines that run tests are slow


@asynccontextmanager
async def realtime(
    server: AblyServer, client_id: str | None = "agent", **options: Any
) -> AsyncGenerator[AblyRealtime]:
    """Open a realtime client with a token of its own; it reconnects quickly after a drop.

    It has left the state "connecting" when the block begins: a client that is closed while it
    connects leaves a failed task behind.

    :param client_id: of the token; None for an anonymous client.
    :param options: what `ably.AblyRealtime` takes.
    :raises TimeoutError: when it does not connect, or close, within 60 seconds.
    """
    options.setdefault("token", server.token(client_id))
    options.setdefault("disconnected_retry_timeout", 100)
    options.setdefault("channel_retry_timeout", 100)
    ignore_sdk_tasks()
    client: Any = AblyRealtime(endpoint=server.endpoint, tls=False, **options)
    try:
        async with asyncio.timeout(_TIMEOUT):
            await client.connection.once_async()
        yield client
    finally:
        async with asyncio.timeout(_TIMEOUT):
            await close_realtime(client)


@asynccontextmanager
async def rest(
    server: AblyServer, client_id: str | None = "agent", **options: Any
) -> AsyncGenerator[AblyRest]:
    """Open a REST client with a token of its own.

    :param client_id: of the token; None for an anonymous client.
    :param options: what `ably.AblyRest` takes.
    """
    if "auth_callback" not in options:
        options.setdefault("token", server.token(client_id))
    async with AblyRest(endpoint="127.0.0.1", port=server.port, tls=False, **options) as client:
        yield client


class Subscriber:
    """Assembles the text of each message, as Ably's documentation has it.

    Docs: ai-transport/token-streaming/message-per-response, "Subscribing to token streams".

    :ivar messages: every message received, in order.
    :ivar texts: the text of each message so far, by the message's serial.
    """

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.texts: dict[str, str] = {}
        self._received = asyncio.Event()

    def take(self, message: Any) -> None:
        """Receive a message: the listener to pass to ``channel.subscribe``."""
        self.messages.append(message)
        if message.action is MessageAction.MESSAGE_APPEND:
            self.texts[message.serial] = self.texts.get(message.serial, "") + message.data
        else:
            self.texts[message.serial] = message.data
        self._received.set()

    @property
    def actions(self) -> list[str]:
        """The actions of the messages, in lower case: ``create``, ``append``, ``update``."""
        return [MessageAction(message.action).name[8:].lower() for message in self.messages]

    async def until(self, condition: Callable[[Subscriber], Any]) -> None:
        """Wait until a condition of this subscriber holds.

        :raises TimeoutError: when it does not within 60 seconds.
        """
        async with asyncio.timeout(_TIMEOUT):
            while not condition(self):
                self._received.clear()
                await self._received.wait()

    async def until_text(self, serial: str, text: str) -> None:
        """Wait until a message has a text.

        :raises TimeoutError: when it does not within 60 seconds.
        """
        await self.until(lambda subscriber: subscriber.texts.get(serial) == text)
