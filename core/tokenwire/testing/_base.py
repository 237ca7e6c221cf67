"""What the parts of the contract share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from tokenwire._ids import new_id
from tokenwire.backend import Backend, Entry, Granularity, Outcome
from tokenwire.errors import BackendUnavailable
from tokenwire.events import Event
from tokenwire.sink import Sink
from tokenwire.testing.producers import read_until
from tokenwire.watch import Watch

__all__ = ["ContractBase", "ended"]


def ended(response_id: str) -> Callable[[Event], bool]:
    """Whether an event says that the response has ended."""

    def check(event: Event) -> bool:
        if event.response_id != response_id:
            return False
        response = getattr(event, "response", None)
        return event.type == "end" or (response is not None and response.ended)

    return check


class ContractBase:
    """Opens sinks on a place that the subclass makes, and closes them at the end.

    :cvar patience: how long to wait for what must come, in seconds.
    :cvar lease: the lease of producers that die, in seconds; raise it for slow backends.
    """

    patience: float = 30.0
    lease: float = 1.0

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        """Make a place for channels, and return how to connect to it.

        Each call of the returned function is another connection, as if from another process.
        What must be undone later goes to `at_end`.
        """
        raise NotImplementedError("say where the backend under test keeps its channels")

    def at_end(self, undo: Callable[[], Any]) -> None:
        """Have `undo` called after the test, last come first."""
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
        """Another connection to this test's place."""
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
        made = Sink(backend or self.connect(granularity), **options)
        self.at_end(made.close)
        return made

    def read(self, watch: Watch, stop: Callable[[Event], bool]) -> list[Event]:
        """Read up to and with the event for which `stop` says so."""
        try:
            return read_until(watch, stop, timeout=self.patience)
        finally:
            watch.close()

    async def publish(self, backend: Backend, *entries: Entry) -> Sequence[Outcome]:
        """Publish past the sink, as it would: again, when nothing is known of what became of it."""
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

    def eventually(self, what: Callable[[], bool]) -> None:
        """Wait for something that has no event of its own."""
        deadline = time.monotonic() + self.patience
        while not what():
            assert time.monotonic() < deadline, "it did not come about"
            threading.Event().wait(0.005)
