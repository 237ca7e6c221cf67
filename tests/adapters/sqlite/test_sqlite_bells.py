"""What others write makes a process look for news only where it watches the channel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tokenwire.backend import Entry
from tokenwire.events import DataEvent, Event
from tokenwire_adapters._backends.sqlite import subscriptions
from tokenwire_adapters._backends.sqlite.doorbell import Doorbell, topic_of
from tokenwire_adapters._backends.sqlite.subscriptions import Subscriptions
from tokenwire_adapters.sqlite import SQLiteBackend

PATIENCE = 60.0


class Names:
    """A receiver that keeps the names of what it gets."""

    def __init__(self) -> None:
        self._names: asyncio.Queue[str] = asyncio.Queue()

    def deliver(self, events: Sequence[Event], after: str | None) -> None:
        for event in events:
            assert isinstance(event, DataEvent)
            self._names.put_nowait(event.name)

    def resync(self) -> None:
        raise AssertionError("nothing was removed")

    async def next(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return await self._names.get()


async def send(backend: SQLiteBackend, channel: str, name: str) -> None:
    (outcome,) = await backend.publish([Entry(channel=channel, events=(DataEvent(name=name),))])
    assert outcome.error is None


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[set[bytes]]:
    """The topics for which there was a look for news; nobody looks without having been woken."""
    looks: list[set[bytes]] = []
    deliver = Subscriptions._deliver

    async def look(subscriptions: Subscriptions) -> None:
        looks.append(set(subscriptions._topics))
        await deliver(subscriptions)

    monkeypatch.setattr(Subscriptions, "_deliver", look)
    monkeypatch.setattr(subscriptions, "_LOOK_EVERY", 3600.0)
    return looks


async def test_what_is_written_to_other_channels_is_not_looked_for(
    url: str, looks: list[set[bytes]]
) -> None:
    watching, writing = SQLiteBackend(url), SQLiteBackend(url)
    try:
        names = Names()
        await watching.subscribe("c", names)
        await send(writing, "c", "first")
        assert await names.next() == "first"
        looks.clear()
        for number in range(50):
            await send(writing, f"other-{number % 3}", "n")
        assert not looks
        await send(writing, "c", "last")
        assert await names.next() == "last"  # bells come in the order in which they are rung
        assert looks == [{topic_of("c", control=False)}]
    finally:
        await watching.close()
        await writing.close()


async def test_a_bell_without_topics_is_for_all(url: str, looks: list[set[bytes]]) -> None:
    watching, writing = SQLiteBackend(url), SQLiteBackend(url)
    try:
        names = Names()
        await watching.subscribe("c", names)
        await send(writing, "c", "first")
        assert await names.next() == "first"
        looks.clear()
        many = {number.to_bytes(4) for number in range(2000)}  # more than fit into a datagram
        bell = Doorbell(watching.settings.path)
        assert not bell.ring(many)
        bell.abandon()
        async with asyncio.timeout(PATIENCE):
            while not looks:
                await asyncio.sleep(0.01)
        assert looks == [{b""}]
    finally:
        await watching.close()
        await writing.close()
