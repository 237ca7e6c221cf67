"""The contract of all backends, on the local Ably with the real client."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.ably_server.settings import Settings
from tests.ably_server.thread import ServerThread
from tokenwire.backend import Backend, Granularity
from tokenwire.testing import BackendContract
from tokenwire_adapters.ably import AblyBackend


class TestAbly(BackendContract):
    lease = 2.0

    @pytest.fixture(autouse=True)
    def _server(self) -> None:
        self.server = ServerThread(settings=Settings(inbound_rate=None)).__enter__()
        self.at_end(lambda: self.server.__exit__(None, None, None))

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        server = self.server.server
        token = server.token("agent")
        return lambda: AblyBackend(
            token=token,
            endpoint="127.0.0.1",
            port=server.port,
            tls=False,
            granularity=granularity,
            rate=0,
        )
