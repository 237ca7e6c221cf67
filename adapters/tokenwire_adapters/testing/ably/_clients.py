"""Ably's own Python clients, pointed at a local server, and a subscriber as documented."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ably
from ably import AblyException, AblyRealtime, AblyRest
from ably.types.message import Message, MessageAction

from tokenwire_adapters.testing.ably._server import AblyServer

__all__ = ["Subscriber", "eventually", "realtime", "rest"]

_PATIENCE = 60.0  # seconds; machines that run tests are slow


@asynccontextmanager
async def realtime(
    server: AblyServer, client_id: str | None = "agent", **options: Any
) -> AsyncIterator[AblyRealtime]:
    """Open a realtime client with a token of its own; it tries again quickly after a drop.

    It has left the state "connecting" when the block begins: a client that is closed while it
    connects leaves a failed task behind.
    """
    options.setdefault("token", server.token(client_id))
    options.setdefault("disconnected_retry_timeout", 100)
    options.setdefault("channel_retry_timeout", 100)
    _excuse_the_sdk()
    client = AblyRealtime(endpoint=server.endpoint, tls=False, **options)
    try:
        async with asyncio.timeout(_PATIENCE):
            await client.connection.once_async()
        yield client
    finally:
        async with asyncio.timeout(_PATIENCE):
            if client.connection.state == "failed":
                await AblyRest.close(client)  # there is no transport left to close
            else:
                await client.close()


_SDK = str(Path(ably.__file__).parent)


def _excuse_the_sdk() -> None:
    """Ignore failures of background tasks that the SDK starts and nobody awaits.

    A drop leaves some behind, for instance a CLOSE that finds no socket. The test runner would
    count them as failures of the test. Failures of anything else still count.
    """
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    if getattr(before, "excuses_sdk", False):
        return

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        frames = traceback.extract_tb(error.__traceback__) if error is not None else []
        if isinstance(error, AblyException) or any(f.filename.startswith(_SDK) for f in frames):
            return
        if before is None:
            loop.default_exception_handler(context)
        else:
            before(loop, context)

    handle.excuses_sdk = True  # type: ignore[attr-defined]
    loop.set_exception_handler(handle)


@asynccontextmanager
async def rest(
    server: AblyServer, client_id: str | None = "agent", **options: Any
) -> AsyncIterator[AblyRest]:
    """Open a REST client with a token of its own."""
    if "auth_callback" not in options:
        options.setdefault("token", server.token(client_id))
    async with AblyRest(endpoint="127.0.0.1", port=server.port, tls=False, **options) as client:
        yield client


class Subscriber:
    """Keeps each message's text as the documentation tells subscribers to.

    Docs: ai-transport/token-streaming/message-per-response, "Subscribing to token streams".
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.texts: dict[str, str] = {}
        self._arrived = asyncio.Event()

    def take(self, message: Message) -> None:
        """Take a message: what to hand to ``subscribe``."""
        self.messages.append(message)
        if message.action is MessageAction.MESSAGE_APPEND:
            self.texts[message.serial] = self.texts.get(message.serial, "") + message.data
        else:
            self.texts[message.serial] = message.data
        self._arrived.set()

    @property
    def actions(self) -> list[str]:
        """What came, as the documentation names it: ``create``, ``append``, ``update``."""
        return [MessageAction(message.action).name[8:].lower() for message in self.messages]

    async def until(self, condition: Callable[[Subscriber], Any]) -> None:
        """Wait until a condition holds, looking again whenever something arrives."""
        async with asyncio.timeout(_PATIENCE):
            while not condition(self):
                self._arrived.clear()
                await self._arrived.wait()

    async def until_text(self, serial: str, text: str) -> None:
        """Wait for a text."""
        await self.until(lambda mine: mine.texts.get(serial) == text)


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait until a condition of the server holds, for which there is no event to await."""
    async with asyncio.timeout(_PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
