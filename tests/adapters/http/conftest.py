"""Fixtures for the tests of the listeners on HTTP clients."""

from collections.abc import Iterator

import pytest

from tests.support.sdk import fresh_sink
from tokenwire import Sink
from tokenwire_adapters._agents.http.retries import RETRIES


@pytest.fixture
def sink() -> Iterator[Sink]:
    with fresh_sink() as sink:
        yield sink
        RETRIES.give_up_all()
