"""The contract of all backends: whole on one server; of a Cluster, Sentinels and pages, a smoke."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.redis_support import RedisCluster, RedisSentinel, RedisServer, find_binaries
from tests.support.contract import smoke
from tokenwire.backend import Backend, Granularity
from tokenwire.testing import BackendContract
from tokenwire_adapters.redis import RedisBackend

pytestmark = pytest.mark.redis


class TestOneServer(BackendContract):
    @pytest.fixture(autouse=True)
    def _server(self, _one_redis: RedisServer) -> None:
        self.server = _one_redis

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        return lambda: RedisBackend(self.server.url, granularity=granularity)


@pytest.fixture(
    scope="module", params=find_binaries()[1:] or [None], ids=lambda b: b.name if b else "none"
)
def _another_redis(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """The servers of this machine that other tests use less: the oldest we know, another make."""
    if request.param is None:
        pytest.skip("there is one kind of server here")
    with RedisServer(binary=request.param) as server:
        yield server


@smoke
class TestAnyServer(TestOneServer):
    @pytest.fixture(autouse=True)
    def _server(self, _another_redis: RedisServer) -> None:
        self.server = _another_redis


@smoke
class TestPageByPage(TestOneServer):
    """Replays and history come in the smallest pages there are."""

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        return lambda: RedisBackend(self.server.url, granularity=granularity, page_bytes=1)


@pytest.mark.slow
@smoke
class TestCluster(BackendContract):
    @pytest.fixture(autouse=True)
    def _cluster(self, _one_redis_cluster: RedisCluster) -> None:
        self.cluster = _one_redis_cluster

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        url = self.cluster.url.replace("redis://", "redis+cluster://")
        return lambda: RedisBackend(url, granularity=granularity)


@pytest.mark.slow
@smoke
class TestBehindSentinels(BackendContract):
    @pytest.fixture(autouse=True)
    def _sentinel(self, _one_redis_sentinel: RedisSentinel) -> None:
        self.sentinel = _one_redis_sentinel

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        return lambda: RedisBackend(self.sentinel.url, granularity=granularity)
