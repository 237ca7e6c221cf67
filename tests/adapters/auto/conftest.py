"""Fixtures for the tests of `auto` and `tokenwire run`."""

from collections.abc import Iterator

import pytest

from tests.support.sdk import fresh_sink
from tokenwire import Sink
from tokenwire_adapters import auto


@pytest.fixture
def sink() -> Iterator[Sink]:
    with fresh_sink() as sink:
        yield sink


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    yield
    auto.uninstall()
