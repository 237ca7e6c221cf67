"""A backend that loses its live connection again while a hub reads what it missed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

import tokenwire
from tokenwire import background
from tokenwire.backend import Receiver, Replay, ReplayFrom, Subscription
from tokenwire.events import Event
from tokenwire.memory import MemoryBackend
from tokenwire.testing import read_until

PATIENCE = 60.0


class _Wire:
    """What a hub gets from a backend, unless the connection is lost."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.lost = False

    def deliver(self, events: Sequence[Event], after: str | None) -> None:
        if not self.lost:
            self._receiver.deliver(events, after)

    def resync(self) -> None:
        self._receiver.resync()


class _Backend(MemoryBackend):
    """Loses connections, and holds replays back once they are read."""

    def __init__(self) -> None:
        super().__init__()
        self.wires: list[_Wire] = []
        self.holds = False
        self.read = threading.Event()
        self._free: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def subscribe(self, channel: str, receiver: Receiver) -> Subscription:
        self._loop = asyncio.get_running_loop()
        wire = _Wire(receiver)
        self.wires.append(wire)
        return await super().subscribe(channel, wire)

    async def replay(self, channel: str, start: ReplayFrom) -> Replay:
        replay = await super().replay(channel, start)
        if self.holds:
            self._free = self._free or asyncio.Event()
            self.read.set()
            await self._free.wait()
        return replay

    def lose(self) -> None:
        self._call(lambda: setattr(self.wires[0], "lost", True))

    def is_back(self) -> None:
        def action() -> None:
            self.wires[0].lost = False
            self.wires[0].resync()

        self._call(action)

    def let_go(self) -> None:
        self.holds = False
        assert self._free is not None
        self._call(self._free.set)

    def _call(self, action: Callable[[], object]) -> None:
        assert self._loop is not None
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (action(), done.set()))
        assert done.wait(PATIENCE)


@pytest.fixture
def backend() -> _Backend:
    return _Backend()


@pytest.fixture
def sink(backend: _Backend) -> Iterator[tokenwire.Sink]:
    with tokenwire.open_sink(backend, strict=True) as sink:
        yield sink


def _text_of(watch: tokenwire.Watch) -> str:
    events = read_until(watch, lambda event: event.type == "end", timeout=PATIENCE)
    return "".join(event.text for event in events if event.type == "delta")


def test_what_is_missed_while_it_reads_again_is_read_as_well(
    backend: _Backend, sink: tokenwire.Sink
) -> None:
    with sink.watch("c") as watch, sink.respond("c", response_id="r") as response:
        response.write("a")
        assert sink.flush(PATIENCE)
        backend.lose()
        response.write("b")
        assert sink.flush(PATIENCE)
        backend.holds = True
        backend.is_back()
        assert backend.read.wait(PATIENCE)
        backend.lose()
        response.write("c")
        response.finish()
        assert sink.flush(PATIENCE)
        backend.is_back()
        backend.let_go()
        assert _text_of(watch) == "abc"


def test_what_is_missed_while_a_channel_is_opened_is_read_as_well(
    backend: _Backend, sink: tokenwire.Sink
) -> None:
    with sink.respond("c", response_id="r") as response:
        response.write("a")
        assert sink.flush(PATIENCE)
        cursor = background.run(sink, backend.replay("c", ReplayFrom())).cursor
        backend.holds = True
        watches: list[tokenwire.Watch] = []
        opening = threading.Thread(
            target=lambda: watches.append(sink.watch("c", after=cursor).open())
        )
        opening.start()
        assert backend.read.wait(PATIENCE)
        backend.lose()
        response.write("b")
        response.finish()
        assert sink.flush(PATIENCE)
        backend.is_back()
        backend.let_go()
        opening.join(PATIENCE)
        (watch,) = watches
        with watch:
            assert _text_of(watch) == "b"
