"""The check of ``tokenwire doctor ably://…``: key, capabilities, channel rule and latency."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from tokenwire.errors import BackendUnavailable
from tokenwire_adapters._backends.ably.connections import (
    RealtimeConnection,
    RestClient,
    subscribe_channel,
)
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.wire import new_message

__all__ = ["check"]

_TIMEOUT = 15.0  # seconds, to attach and for the message to come back


async def check(
    settings: Settings,
    publishing: RealtimeConnection,
    watching: RealtimeConnection,
    rest: RestClient,
) -> dict[str, Any]:
    """Do what a producer and a watcher do, once, on the setting `check_channel`.

    :return: settings, and how long each step took, in milliseconds.
    :raises BackendError: saying what is wrong, and what to change in the Ably dashboard.
    """
    name = settings.check_channel
    report: dict[str, Any] = {
        "backend": "AblyBackend",
        "account": settings.label,
        "channel": name,
        "granularity": settings.granularity,
    }
    report["clock_ms"] = await _timed(rest.now())
    report["connect_ms"] = await _timed(publishing.client())
    channel = await watching.channel(name)
    echo = _Echo(secrets.token_hex(8))
    try:
        await subscribe_channel(channel, echo.on_message, _TIMEOUT)
        report.update(await _round_trip(settings, publishing, echo))
        report["history_ms"] = await _timed(
            rest.request(
                lambda client: client.channels.get(name).history(limit=1),
                f"reading the history of {name!r} (capability history)",
            )
        )
    finally:
        channel.unsubscribe(echo.on_message)
    return report


class _Echo:
    """Collects the text of a message that has the header `token`."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._text = ""
        self._changed = asyncio.Event()

    def on_message(self, message: Any) -> None:
        extras: Any = message.extras or {}
        headers: Any = extras.get("headers") or {}
        if headers.get("check") == self.token:
            appended = getattr(message.action, "name", "") == "MESSAGE_APPEND"
            self._text = (self._text if appended else "") + str(message.data)
            self._changed.set()

    async def wait_for(self, text: str) -> None:
        async with asyncio.timeout(_TIMEOUT):
            while self._text != text:
                self._changed.clear()
                await self._changed.wait()


async def _round_trip(
    settings: Settings, publishing: RealtimeConnection, echo: _Echo
) -> dict[str, Any]:
    channel = await publishing.channel(settings.check_channel)
    extras = {"headers": {"check": echo.token}}
    begun = time.monotonic()

    async def publish() -> Any:
        return await channel.publish(new_message(name="check", data="round ", extras=extras))

    result = await publishing.submit(publish, "publishing (capability publish)")
    report: dict[str, Any] = {"publish_ms": _ms_since(begun)}
    expected = "round "
    if settings.granularity == "response":
        expected = "round trip"
        published = time.monotonic()

        async def append() -> Any:
            message = new_message(serial=result.serials[0], data="trip", extras=extras)
            return await channel.append_message(message)

        what = "appending (capability message-update-own, and the channel's rule)"
        await publishing.submit(append, what)
        report["append_ms"] = _ms_since(published)
    try:
        await echo.wait_for(expected)
    except TimeoutError:
        raise BackendUnavailable(
            f"what was published to {settings.check_channel!r} did not come back"
        ) from None
    report["round_trip_ms"] = _ms_since(begun)
    return report


async def _timed(awaitable: Any) -> float:
    begun = time.monotonic()
    await awaitable
    return _ms_since(begun)


def _ms_since(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 1)
