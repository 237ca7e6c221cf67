"""A server that is away for longer than a lease: the producers that it lost may be alive."""

from __future__ import annotations

import time

import pytest

from tests.redis_support import FaultyProxy, RedisServer, eventually
from tokenwire import _clock, open_sink
from tokenwire.testing import Spectator

pytestmark = [pytest.mark.redis, pytest.mark.slow]
PATIENCE = 60.0
LEASE = 3.0  # seconds: a pause of a busy machine is shorter


@pytest.fixture
def producers_url(redis_server: RedisServer, faulty_proxy: FaultyProxy) -> str:
    return redis_server.url.replace(str(redis_server.port), str(faulty_proxy.port))


def _be_away(server: RedisServer) -> None:
    """Have a server away until the lease of response "r" of channel "c" has run out."""
    lease = float(server.cli("ZSCORE", "tokenwire:{c}:open", "r")) / 1000
    server.stop()
    eventually(lambda: time.time() > lease, "the lease to run out")
    server.start()


def test_a_producer_may_come_back_later_than_readers(
    redis_server: RedisServer, faulty_proxy: FaultyProxy, producers_url: str
) -> None:
    with (
        open_sink(redis_server.url) as reader,
        open_sink(producers_url, lease=LEASE) as sink,
        reader.watch("c") as watch,
        sink.respond("c", response_id="r") as response,
    ):
        response.write("before ")
        assert sink.flush(PATIENCE)
        assert reader.history("c").items[0].state == "streaming"
        faulty_proxy.refuse()
        _be_away(redis_server)
        assert reader.history("c").items[0].state == "streaming"
        assert reader.history("c").items[0].state == "streaming"
        faulty_proxy.accept()
        response.write("after")
        response.finish()
        assert response.wait(PATIENCE).status in ("delivered", "recovered")
        spectator = Spectator()
        spectator.watch(watch, lambda event: event.type == "end", timeout=PATIENCE)
        assert spectator["r"].text == "before after"
        assert spectator["r"].state == "complete"


def test_one_that_does_not_come_back_is_abandoned(
    redis_server: RedisServer,
    faulty_proxy: FaultyProxy,
    producers_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_clock, "_LONGEST_PAUSE", 0.0)
    with (
        open_sink(redis_server.url, timeout=0.5) as reader,
        open_sink(producers_url, lease=LEASE) as sink,
        reader.watch("c") as watch,
    ):
        response = sink.respond("c", response_id="r")
        response.write("before ")
        assert sink.flush(PATIENCE)
        faulty_proxy.refuse()
        _be_away(redis_server)
        spectator = Spectator()
        spectator.watch(watch, lambda event: event.type == "end", timeout=PATIENCE)
        assert spectator["r"].state == "abandoned"
        faulty_proxy.accept()
        response.finish()
        assert response.wait(PATIENCE).status == "refused"
