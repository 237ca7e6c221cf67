"""A memory store of each test's own, a gateway on it, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.gateway.ways import parametrize_ways, way
from tests.support.profile import EVERYTHING
from tokenwire_adapters.asgi import Gateway

__all__ = ["way"]

BOTH_WAYS = {
    "test_access",
    "test_connections",
    "test_events",
    "test_eventsource",
    "test_operations",
    "test_resume",
    "test_slow_clients",
    "test_socket",
} | ({"test_redis"} if EVERYTHING else set())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of event streams over both ways that these leave a server."""
    parametrize_ways(metafunc, BOTH_WAYS)


@pytest.fixture
def sink() -> Iterator[tokenwire.Sink]:
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        yield sink


@pytest.fixture
def gateway(sink: tokenwire.Sink) -> Gateway:
    return Gateway(sink)


@pytest.fixture
def server(gateway: Gateway) -> Iterator[Server]:
    with serving(gateway) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client
