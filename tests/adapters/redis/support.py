"""What tests of the Redis backend share: entries, and a receiver that records events."""

from __future__ import annotations

import asyncio

from tokenwire.backend import Entry
from tokenwire.events import (
    DeltaEvent,
    StartEvent,
)
from tokenwire_adapters.redis import RedisBackend

PATIENCE = 30.0


class RecordingReceiver:
    """A receiver that records what is delivered."""

    def __init__(self):
        self.events = []
        self.befores = []
        self.resyncs = 0

    def deliver(self, events, after):
        self.events += events
        self.befores.append(after)

    def resync(self):
        self.resyncs += 1

    async def until(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self.events) < count:
                await asyncio.sleep(0.001)
        return self.events


async def another(server, **settings):
    return RedisBackend(server.url, **settings)


def make_delta(offset, text, part=0, kind="text", response_id="r"):
    return DeltaEvent(response_id=response_id, part=part, kind=kind, offset=offset, text=text)


def make_entry(seq, *events, fence="f", response_id="r", channel="c", lease=60.0):
    return Entry(
        channel=channel,
        events=events,
        response_id=response_id,
        fence=fence,
        seq=seq,
        lease=lease,
    )


def make_start(response_id="r"):
    return StartEvent(response_id=response_id, run="run", metadata={"a": 1})


async def publish(backend, *entries):
    outcomes = await backend.publish(entries)
    assert [outcome.error for outcome in outcomes] == [None] * len(entries)
    return outcomes


async def kept_in(backend, channel="c"):
    page = await backend.history(channel, limit=100)
    return {response.id: response for response in page.items}
