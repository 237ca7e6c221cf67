"""What the parts of the contract share: sinks on a store of each test's own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from tokenwire._ids import new_id
from tokenwire.backend import Backend, Entry, Granularity, Outcome
from tokenwire.errors import BackendUnavailable
from tokenwire.events import Event, Response, ends_response
from tokenwire.sink import Page, Sink
from tokenwire.testing.producers import Spectator, read_until
from tokenwire.watch import Watch

__all__ = ["ContractBase", "ended", "in_threads", "raises"]

T = TypeVar("T")


def ended(response_id: str) -> Callable[[Event], bool]:
    """Whether an event says that the response has ended."""
    return lambda event: event.response_id == response_id and ends_response(event)


def raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    """Whether a call raises an error of this kind."""
    try:
        call()
    except kind:
        return True
    return False


def in_threads(function: Callable[[T], object], arguments: Iterable[T]) -> None:
    """Call `function` with each argument, each on a thread of its own, and wait for all."""
    threads = [threading.Thread(target=function, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class ContractBase:
    """Opens sinks on backends that the subclass connects, and closes them after the test.

    :cvar patience: the timeout of everything that must happen, in seconds.
    :cvar lease: the lease of producers that die, in seconds; raise it for slow backends.
    """

    patience: float = 30.0
    lease: float = 1.0

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        """Prepare a store of channels, and return a function that connects a backend to it.

        Each call of that function is another connection, as if from another process. Register
        clean-up with `at_end`.
        """
        raise NotImplementedError("return a function that connects the backend under test")

    def at_end(self, undo: Callable[[], Any]) -> None:
        """Have `undo` called after the test; the last one registered comes first."""
        self._undo.append(undo)

    def setup_method(self) -> None:
        """Called by pytest before each test."""
        self._undo: list[Callable[[], Any]] = []
        self._connects: dict[Granularity, Callable[[], Backend]] = {}
        self.channel = new_id("contract-")

    def teardown_method(self) -> None:
        """Called by pytest after each test."""
        while self._undo:
            self._undo.pop()()

    def connect(self, granularity: Granularity = "response") -> Backend:
        """Another connection to this test's store."""
        if granularity not in self._connects:
            self._connects[granularity] = self.place(granularity)
        return self._connects[granularity]()

    def sink(
        self,
        backend: Backend | None = None,
        *,
        granularity: Granularity = "response",
        **options: Any,
    ) -> Sink:
        """A sink on a connection of its own, closed after the test."""
        options.setdefault("lease", 60.0)
        sink = Sink(backend or self.connect(granularity), **options)
        self.at_end(sink.close)
        return sink

    def read(self, watch: Watch, stop: Callable[[Event], bool]) -> list[Event]:
        """Read up to and with the event for which `stop` says so."""
        try:
            return read_until(watch, stop, timeout=self.patience)
        finally:
            watch.close()

    def spectate(self, watch: Watch, stop: Callable[[Event], bool]) -> Spectator:
        """Read up to and with the event for which `stop` says so, and check each."""
        spectator = Spectator()
        for event in self.read(watch, stop):
            spectator.see(event)
        return spectator

    def whole_history(self, sink: Sink, channel: str) -> list[Response]:
        """All responses of a channel, newest first: a page may be bounded in bytes."""
        page: Page | None = sink.history(channel)
        responses: list[Response] = []
        while page is not None:
            responses += page.items
            page = page.next()
        return responses

    async def publish(self, backend: Backend, *entries: Entry) -> Sequence[Outcome]:
        """Publish without a sink, and again as a sink would while the outcome is unknown."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                outcomes = await backend.publish(entries)
            except BackendUnavailable:
                assert time.monotonic() < deadline, "the backend stays unavailable"
            else:
                if not any(isinstance(one.error, BackendUnavailable) for one in outcomes):
                    return outcomes
            await asyncio.sleep(0.05)

    def eventually(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds that has no event of its own."""
        deadline = time.monotonic() + self.patience
        while not condition():
            assert time.monotonic() < deadline, "the condition does not hold in time"
            threading.Event().wait(0.005)
