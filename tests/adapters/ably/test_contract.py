"""The contract of all backends, on the local Ably with the real client; in trouble, a smoke."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.contract import smoke
from tokenwire.backend import Backend, Granularity
from tokenwire.testing import BackendContract
from tokenwire_adapters.ably import AblyBackend
from tokenwire_adapters.testing.ably import ServerThread, Settings


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


@pytest.mark.slow
@smoke
class TestAblyInTrouble(TestAbly):
    """A smoke of it, while Ably refuses one publish in ten and cuts connections twice a second."""

    lease = 6.0

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        server = self.server.server
        token = server.token("agent")
        self.server.fault("nack_every", 10)
        self.server.fault("disconnect_every", 0.5)
        self.at_end(lambda: self.server.fault("disconnect_every", 0))
        return lambda: AblyBackend(
            token=token,
            endpoint="127.0.0.1",
            port=server.port,
            tls=False,
            granularity=granularity,
            rate=0,
            retry=0.05,
        )
