"""The in-memory backend keeps the contract."""

from collections.abc import Callable

from tokenwire import MemoryBackend, open_sink
from tokenwire.backend import Backend, Granularity
from tokenwire.memory import MemoryStore, Retention
from tokenwire.testing import BackendContract, FaultyBackend


class TestMemory(BackendContract):
    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        store = MemoryStore(granularity=granularity)
        return lambda: MemoryBackend(store)


class TestMemoryNotInline(BackendContract):
    """The same through the path that networked backends take."""

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        store = MemoryStore(granularity=granularity)
        return lambda: FaultyBackend(MemoryBackend(store))


def test_a_channel_that_is_let_go_of_does_not_use_its_cursors_again() -> None:
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0], retention=Retention(age=10.0))
    with open_sink(MemoryBackend(store)) as sink:
        with sink.respond("c", response_id="old") as writer:
            writer.write("old")
        cursor = writer.wait(10).cursor
    now[0] = 100.0
    with open_sink(MemoryBackend(store)) as sink:
        for _ in range(5000):  # a sweep comes after some of these
            sink.send_event("other", "n")
        for n in range(4):
            sink.respond("c", response_id=f"new-{n}").finish()
        with sink.watch("c", after=cursor) as watch:
            ids: set[str | None] = set()
            for event in watch:
                ids.add(event.response_id)
                if "new-3" in ids:
                    break
        assert ids == {f"new-{n}" for n in range(4)}
