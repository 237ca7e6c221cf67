"""What others write makes a process look for news only where it watches the channel."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor

import pytest

from tokenwire.backend import Entry
from tokenwire.events import DataEvent, Event
from tokenwire_adapters._backends.sqlite import doorbell, subscriptions
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


@pytest.fixture
def wakings(monkeypatch: pytest.MonkeyPatch) -> list[set[bytes]]:
    """The topics of each time that a bell woke somebody."""
    wakings: list[set[bytes]] = []
    receive = doorbell._receive

    def wake(bell: socket.socket, on_bell: Callable[[AbstractSet[bytes]], None]) -> None:
        def on(topics: AbstractSet[bytes]) -> None:
            wakings.append(set(topics))
            on_bell(topics)

        receive(bell, on)

    monkeypatch.setattr(doorbell, "_receive", wake)
    return wakings


async def bells_were_heard(
    backend: SQLiteBackend, wakings: list[set[bytes]], channel: str = "c"
) -> None:
    """Wait for the bell of what was delivered, and its look: an earlier look may have found it."""
    async with asyncio.timeout(PATIENCE):
        while topic_of(channel, control=False) not in set().union(*wakings):
            await asyncio.sleep(0.001)
        while backend._subscriptions._topics:
            await asyncio.sleep(0.001)


def in_group(of: str, *, other: bool = False) -> str:
    """The name of a channel whose events have the same group of bells, or another one."""
    group = doorbell._group_of(topic_of(of, control=False))
    names = (f"other-{number}" for number in itertools.count())
    return next(
        name
        for name in names
        if (doorbell._group_of(topic_of(name, control=False)) != group) is other
    )


async def test_what_is_written_to_other_channels_is_not_looked_for(
    url: str, looks: list[set[bytes]], wakings: list[set[bytes]]
) -> None:
    watching, writing = SQLiteBackend(url), SQLiteBackend(url)
    try:
        names = Names()
        await watching.subscribe("c", names)
        await send(writing, "c", "first")
        assert await names.next() == "first"
        await bells_were_heard(watching, wakings)
        looks.clear()
        other = in_group("c")  # its bells do wake the process
        for _ in range(50):
            await send(writing, other, "n")
        assert not looks
        await send(writing, "c", "last")
        assert await names.next() == "last"  # bells come in the order in which they are rung
        assert looks == [{topic_of("c", control=False)}]
    finally:
        await watching.close()
        await writing.close()


async def test_a_process_is_woken_for_its_groups_of_channels(
    url: str, looks: list[set[bytes]], wakings: list[set[bytes]]
) -> None:
    watching, writing = SQLiteBackend(url), SQLiteBackend(url)
    try:
        names = Names()
        subscription = await watching.subscribe("c", names)
        await send(writing, "c", "first")
        assert await names.next() == "first"
        wakings.clear()
        near, far = in_group("c"), in_group("c", other=True)
        for _ in range(20):
            await send(writing, far, "n")
        await send(writing, near, "n")
        await send(writing, "c", "second")
        assert await names.next() == "second"
        expected = [topic_of(name, control=False) for name in (near, "c")]
        assert set().union(*wakings) == set(expected)

        others = Names()  # the socket gets another name
        await watching.subscribe(far, others)
        await send(writing, far, "far")
        assert await others.next() == "far"
        wakings.clear()
        await send(writing, "c", "third")
        assert await names.next() == "third"
        await bells_were_heard(watching, wakings)

        await subscription.close()
        await watching._subscriptions._look()
        wakings.clear()
        await send(writing, "c", "n")
        await send(writing, far, "far again")
        assert await others.next() == "far again"
        assert set().union(*wakings) == {topic_of(far, control=False)}
    finally:
        await watching.close()
        await writing.close()


async def test_what_comes_while_the_socket_is_renamed_is_looked_for(
    url: str, looks: list[set[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = SQLiteBackend(url)
    try:
        names = Names()
        await watching.subscribe("c", names)
        await watching._subscriptions._look()
        rename = os.rename

        async def write() -> None:
            writing = SQLiteBackend(url)
            await send(writing, "c", "while renamed")
            await writing.close()

        def rename_slowly(old: str, new: str) -> None:
            with monkeypatch.context() as patches, ThreadPoolExecutor() as threads:
                patches.setattr(os, "listdir", lambda _: [])  # it misses what is being renamed
                threads.submit(asyncio.run, write()).result(PATIENCE)
            rename(old, new)

        monkeypatch.setattr(os, "rename", rename_slowly)
        await watching.subscribe(in_group("c", other=True), Names())
        assert await names.next() == "while renamed"
    finally:
        await watching.close()


async def test_a_bell_without_topics_is_for_all(
    url: str, looks: list[set[bytes]], wakings: list[set[bytes]]
) -> None:
    watching, writing = SQLiteBackend(url), SQLiteBackend(url)
    try:
        names = Names()
        await watching.subscribe("c", names)
        await send(writing, "c", "first")
        assert await names.next() == "first"
        await bells_were_heard(watching, wakings)
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
