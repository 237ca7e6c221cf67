"""Fixtures for the tests of WebSockets."""

from collections.abc import Iterator

import pytest

from tests.adapters.websockets.server import SocketServer
from tests.support.sdk import fresh_sink
from tokenwire import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    with fresh_sink() as sink:
        yield sink


@pytest.fixture
def server() -> Iterator[SocketServer]:
    with SocketServer() as server:
        yield server
