"""Streams that others publish, as Ably documents them, seen through a sink."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ably.types.message import Message

from tests.adapters.ably.places import sink
from tokenwire.testing import Spectator, read_until
from tokenwire_adapters.testing.ably import ServerThread, realtime

TOKENS = [f" tök{i}" for i in range(40)]


async def a_message_per_response(channel: Any) -> None:
    extras = {"headers": {"responseId": "r"}}
    created = await channel.publish(Message(name="response", data="", extras=extras))
    serial = created.serials[0]
    tasks = [
        asyncio.create_task(
            channel.append_message(Message(serial=serial, data=token, extras=extras))
        )
        for token in TOKENS
    ]
    await asyncio.gather(*tasks)


async def a_message_per_token(channel: Any) -> None:
    extras = {"headers": {"responseId": "r"}}
    for name, data in [("start", None), *(("token", token) for token in TOKENS), ("stop", None)]:
        await channel.publish(Message(name=name, data=data, extras=extras))


async def with_recovery(channel: Any) -> None:
    extras = {"headers": {"responseId": "r"}}
    for token in TOKENS[:20]:
        await channel.publish(Message(name="token", data=token, extras=extras))
    whole = "".join(TOKENS)
    await channel.publish(Message(name="response-complete", data=whole, extras=extras))


@pytest.mark.parametrize("publish", [a_message_per_response, a_message_per_token, with_recovery])
def test_foreign_streams(publish: Any) -> None:
    with ServerThread() as thread, sink(thread, "viewer") as viewer:
        watch = viewer.watch("ai:chat").open()

        async def main() -> None:
            async with realtime(thread.server) as client:
                await publish(client.channels.get("ai:chat"))

        asyncio.run(main())
        viewer.send_event("ai:chat", "done")
        live, late = Spectator(), Spectator()
        for event in read_until(watch, lambda event: event.type == "data"):
            live.see(event)
        watch.close()
        again = viewer.watch("ai:chat", rewind="all")
        for event in read_until(again, lambda event: event.type == "data"):
            late.see(event)
        again.close()
        (kept,) = viewer.history("ai:chat").items
        assert live["r"].text == late["r"].text == kept.text == "".join(TOKENS)
        assert kept.state == ("streaming" if publish is a_message_per_response else "complete")
