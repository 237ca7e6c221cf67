"""A memory store, a model provider and an agent of each test's own; pages of the AI SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import tokenwire
from tests.adapters.gateway.ways import parametrize_ways, way
from tests.adapters.ui.agents import Agent
from tests.adapters.ui.pages import SharedPages
from tokenwire_adapters.testing.provider import Provider, serve_in_thread

__all__ = ["way"]

BOTH_WAYS = {"test_approvals", "test_chat_routes", "test_errors", "test_truncation"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of routes over both ways that event streams leave a server."""
    parametrize_ways(metafunc, BOTH_WAYS)


@pytest.fixture
def sink() -> Iterator[tokenwire.Sink]:
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        yield sink


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve_in_thread(pace=0) as provider:
        yield provider


@pytest.fixture
def agent(provider: Provider) -> Agent:
    return Agent(provider)


@pytest.fixture(scope="module", params=["ai", "ai-6", "ai-5"])
def node(request: Any) -> Iterator[SharedPages]:
    shared = SharedPages("vercel.mjs", AI_PACKAGE=request.param)
    yield shared
    shared.close()


@pytest.fixture
async def page(node: SharedPages) -> AsyncIterator[SharedPages]:
    async with node.used():
        yield node
