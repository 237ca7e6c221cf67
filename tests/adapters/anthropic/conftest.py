"""Fixtures for the tests of the Anthropic adapter."""

from collections.abc import Iterator

import pytest

from tests.support.sdk import fresh_sink
from tokenwire import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    with fresh_sink() as sink:
        yield sink
