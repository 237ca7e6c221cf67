"""What ``tokenwire doctor ably://…`` finds out: key, rights, channel rule, round trip, latency."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from tokenwire.errors import BackendUnavailable
from tokenwire_adapters._backends.ably.connections import Link, Rest
from tokenwire_adapters._backends.ably.errors import may_listen, translate
from tokenwire_adapters._backends.ably.options import Settings
from tokenwire_adapters._backends.ably.wire import new_message

__all__ = ["check"]

_WAIT = 15.0  # seconds for the message to come back


async def check(settings: Settings, out: Link, back: Link, rest: Rest) -> dict[str, Any]:
    """Do once, on a channel of its own, all that a producer and a watcher do.

    :raises BackendError: saying what is wrong and what to click.
    """
    name = settings.check_channel
    found: dict[str, Any] = {
        "backend": "AblyBackend",
        "account": settings.shown,
        "channel": name,
        "granularity": settings.granularity,
    }
    found["clock_ms"] = await _timed(rest.now())
    found["connect_ms"] = await _timed(out.client())
    reader = await back.channel(name)
    token = secrets.token_hex(8)
    arrived = asyncio.Event()
    texts: dict[str, str] = {}

    def heard(made: Any) -> None:
        extras: Any = made.extras or {}
        headers: Any = extras.get("headers") or {}
        if headers.get("check") == token:
            whole = getattr(made.action, "name", "") != "MESSAGE_APPEND"
            texts["heard"] = ("" if whole else texts.get("heard", "")) + str(made.data)
            arrived.set()

    try:
        await _attached(reader, heard)
        found.update(await _round_trip(settings, out, token, texts, arrived))
        found["history_ms"] = await _timed(
            rest.ask(
                lambda client: client.channels.get(name).history(limit=1),
                f"reading the history of {name!r} (capability history)",
            )
        )
    finally:
        reader.unsubscribe(heard)
    return found


async def _attached(channel: Any, listener: Any) -> None:
    what = f"attaching to {channel.name!r} (capability subscribe)"
    try:
        async with asyncio.timeout(_WAIT):
            await channel.subscribe(listener)
        may_listen(channel)
    except Exception as error:
        raise translate(error, what) from error


async def _round_trip(
    settings: Settings, out: Link, token: str, texts: dict[str, str], arrived: asyncio.Event
) -> dict[str, Any]:
    channel = await out.channel(settings.check_channel)
    extras = {"headers": {"check": token}}
    begun = time.monotonic()

    async def publish() -> Any:
        return await channel.publish(new_message(name="check", data="round ", extras=extras))

    result = await out.post(publish, "publishing (capability publish)")
    found: dict[str, Any] = {"publish_ms": _since(begun)}
    expected = "round "
    if settings.granularity == "response":
        expected = "round trip"
        between = time.monotonic()

        async def append() -> Any:
            made = new_message(serial=result.serials[0], data="trip", extras=extras)
            return await channel.append_message(made)

        await out.post(append, "appending (capability message-update-own, and the channel's rule)")
        found["append_ms"] = _since(between)
    try:
        async with asyncio.timeout(_WAIT):
            while texts.get("heard") != expected:
                arrived.clear()
                await arrived.wait()
    except TimeoutError:
        raise BackendUnavailable(
            f"what was published to {settings.check_channel!r} did not come back"
        ) from None
    found["round_trip_ms"] = _since(begun)
    return found


async def _timed(awaitable: Any) -> float:
    begun = time.monotonic()
    await awaitable
    return _since(begun)


def _since(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 1)
