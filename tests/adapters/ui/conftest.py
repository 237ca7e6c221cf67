"""A memory store and a model provider of each test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tokenwire
from tokenwire_adapters.testing.provider import Provider, serve_in_thread


@pytest.fixture
def sink() -> Iterator[tokenwire.Sink]:
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        yield sink


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve_in_thread(pace=0) as provider:
        yield provider
