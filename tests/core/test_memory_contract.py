"""The in-memory backend keeps the contract."""

from collections.abc import Callable

from tokenwire import MemoryBackend
from tokenwire.backend import Backend, Granularity
from tokenwire.memory import MemoryStore
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
