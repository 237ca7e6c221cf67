"""Fixtures for the tests of the proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.needs import needs

needs("httpx", "starlette", "uvicorn")

from tests.redis_support.fixtures import *  # noqa: F403
from tests.support.sdk import fresh_sink
from tokenwire import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    with fresh_sink() as sink:
        yield sink
