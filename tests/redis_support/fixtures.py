"""Pytest fixtures; a conftest takes them with ``from tests.redis_support.fixtures import *``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ._binary import Binary, ServerMissing, find_binaries, find_binary
from .cluster import RedisCluster
from .proxy import FaultyProxy
from .sentinel import RedisSentinel
from .server import RedisServer

__all__ = [
    "_one_redis",
    "_one_redis_cluster",
    "_one_redis_sentinel",
    "each_redis_binary",
    "faulty_proxy",
    "redis_binary",
    "redis_cluster",
    "redis_sentinel",
    "redis_server",
    "shared_redis",
    "shared_redis_cluster",
]


def _required() -> Binary:
    """The preferred server; without one the test is skipped, or fails where ``CI`` is set."""
    try:
        return find_binary()
    except ServerMissing as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def redis_binary() -> Binary:
    return _required()


@pytest.fixture(
    scope="session",
    params=find_binaries() or [None],
    ids=lambda binary: binary.name if binary else "none",
)
def each_redis_binary(request: pytest.FixtureRequest) -> Binary:
    """Every server of this machine in turn: Redis 6.2, 7, Valkey 9, what there is."""
    return request.param or _required()


@pytest.fixture(scope="session")
def _one_redis(redis_binary: Binary) -> Iterator[RedisServer]:
    with RedisServer(binary=redis_binary, appendonly=True) as server:
        yield server


@pytest.fixture
def shared_redis(_one_redis: RedisServer) -> RedisServer:
    """One server for the whole session, emptied for each test: for tests that leave it alive."""
    _one_redis.reset()
    return _one_redis


@pytest.fixture
def redis_server(redis_binary: Binary) -> Iterator[RedisServer]:
    """A server of the test's own, append-only file on: to kill, freeze and restart."""
    with RedisServer(binary=redis_binary, appendonly=True) as server:
        yield server


@pytest.fixture
def faulty_proxy(redis_server: RedisServer) -> Iterator[FaultyProxy]:
    """A proxy in front of `redis_server`."""
    with FaultyProxy((redis_server.host, redis_server.port)) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def _one_redis_cluster(redis_binary: Binary) -> Iterator[RedisCluster]:
    with RedisCluster(binary=redis_binary) as cluster:
        yield cluster


@pytest.fixture
def shared_redis_cluster(_one_redis_cluster: RedisCluster) -> RedisCluster:
    """One cluster for the whole session, emptied for each test; starting one takes two seconds."""
    _one_redis_cluster.reset()
    return _one_redis_cluster


@pytest.fixture
def redis_cluster(redis_binary: Binary) -> Iterator[RedisCluster]:
    """A cluster of the test's own, with a proxy in front of each node."""
    with RedisCluster(binary=redis_binary, proxied=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def _one_redis_sentinel(redis_binary: Binary) -> Iterator[RedisSentinel]:
    """For tests that leave the master where it is, however long it keeps its Sentinels waiting."""
    with RedisSentinel(binary=redis_binary, down_after_ms=60_000) as sentinel:
        yield sentinel


@pytest.fixture
def redis_sentinel(redis_binary: Binary) -> Iterator[RedisSentinel]:
    """A master, a replica and three Sentinels of the test's own."""
    with RedisSentinel(binary=redis_binary) as sentinel:
        yield sentinel
