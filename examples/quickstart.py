"""The smallest program: an agent writes into a channel, others watch it.

    pip install tokenwire
    python examples/quickstart.py

It needs no extra, and no model.
"""

from __future__ import annotations

import asyncio

import tokenwire

CHANNEL = "chat-42"


async def agent(sink: tokenwire.Sink) -> None:
    """Produce one reply, a token at a time. Writing never blocks."""
    async with sink.respond(CHANNEL, metadata={"user": "u1"}) as response:
        for token in ("Every", " token,", " on", " every", " screen."):
            response.write(token)
            await asyncio.sleep(0.1)  # the model thinks
        response.finish(finish_reason="stop")


async def screen(sink: tokenwire.Sink, name: str) -> None:
    """Show the channel from its beginning, however late it begins, until the reply ends."""
    async for event in sink.watch(CHANNEL, rewind="all"):
        if isinstance(event, tokenwire.DeltaEvent):
            print(f"{name}: {event.text!r}")
        elif isinstance(event, tokenwire.SnapshotEvent):
            print(f"{name}: {event.response.text!r} so far")
        elif isinstance(event, tokenwire.EndEvent):
            print(f"{name}: {event.state}")
            break


async def main() -> None:
    async with tokenwire.open_sink("memory://") as sink:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(agent(sink))
            tasks.create_task(screen(sink, "phone"))
            await asyncio.sleep(0.25)
            tasks.create_task(screen(sink, "laptop, which came late"))
        page = await sink.ahistory(CHANNEL, limit=1)
        print("history:", page.items[0].text)


if __name__ == "__main__":
    asyncio.run(main())
