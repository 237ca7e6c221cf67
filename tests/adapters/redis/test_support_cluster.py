"""The Cluster and the Sentinels that the Redis tests run on do what they say."""

import contextlib

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from tests.redis_support import RedisCluster, RedisSentinel, eventually

pytestmark = [pytest.mark.slow, pytest.mark.redis]
NEVER = Retry(NoBackoff(), 0)


@pytest.fixture
def client(shared_redis_cluster):
    with redis.RedisCluster.from_url(shared_redis_cluster.url) as opened:
        yield opened


def test_every_slot_is_served(shared_redis_cluster, client):
    for number in range(100):
        client.set(f"key-{number}", number)
    assert [client.get(f"key-{number}") for number in range(100)] == [
        str(number).encode() for number in range(100)
    ]
    held = [node.cli("DBSIZE") for node in shared_redis_cluster.nodes]
    assert sum(held) == 100
    assert all(held)


def test_runs_on_every_server(each_redis_binary):
    with RedisCluster(binary=each_redis_binary) as cluster:
        key = "{x}key"
        cluster.cli_for(key, "SET", key, 1)
        target = cluster.migrate(cluster.slot_of(key))
        assert cluster.owner(cluster.slot_of(key)) is target
        assert target.cli("GET", key) == "1"


def test_a_slot_moves_with_its_keys(shared_redis_cluster, client):
    names = [f"{{move}}{number}" for number in range(250)]
    for name in names:
        client.set(name, name)
    slot = shared_redis_cluster.slot_of("{move}")
    source = shared_redis_cluster.owner(slot)
    target = shared_redis_cluster.migrate(slot)
    assert target is not source
    assert shared_redis_cluster.owner(slot) is target
    assert [client.get(name) for name in names] == [name.encode() for name in names]
    assert target.cli("CLUSTER", "COUNTKEYSINSLOT", slot) == 250
    with pytest.raises(redis.ResponseError, match=str(target.port)):
        source.cli("GET", names[0])


def test_a_slot_with_two_homes_asks_and_goes_on(shared_redis_cluster, client):
    for number in range(20):
        client.set(f"{{two}}{number}", number)
    migration = shared_redis_cluster.begin_migration(shared_redis_cluster.slot_of("{two}"))
    assert migration.move_keys(7) == 7
    with pytest.raises(redis.exceptions.AskError):
        migration.source.cli("GET", "{two}absent")
    assert [client.get(f"{{two}}{number}") for number in range(20)] == [
        str(number).encode() for number in range(20)
    ]
    client.set("{two}late", 1)  # made at the target
    migration.finish()
    assert client.get("{two}late") == b"1"


def test_a_killed_node_comes_back(redis_cluster):
    node = redis_cluster.owner(redis_cluster.slot_of("key"))
    node.cli("SET", "key", 1)
    node.wait_written()
    node.restart(kill=True)
    redis_cluster.wait_ok()
    assert node.cli("GET", "key") == "1"


async def test_proxies_carry_every_client_connection(redis_cluster):
    async with redis.asyncio.RedisCluster.from_url(redis_cluster.url) as client:
        for number in range(100):
            await client.set(f"key-{number}", number)
        assert all(proxy.accepted for proxy in redis_cluster.proxies)
        for proxy in redis_cluster.proxies:
            proxy.cut()
        assert await client.get("key-7") == b"7"


@pytest.mark.in_turn("each_redis_binary")
@pytest.mark.parametrize("kill", [False, True])
def test_failover(each_redis_binary, kill):
    with (
        RedisSentinel(binary=each_redis_binary) as sentinel,
        contextlib.closing(Sentinel(sentinel.addresses).master_for(sentinel.name)) as client,
    ):
        old = sentinel.master
        client.set("key", 1)
        client.wait(1, 30_000)
        new = sentinel.failover(kill=kill)
        assert new is not old
        assert sentinel.master is new
        assert old.running is not kill

        def answer(*command):
            # Its connection may go at any moment: the old master cuts all when it is demoted.
            with contextlib.suppress(redis.RedisError):
                return client.execute_command(*command)

        assert eventually(lambda: answer("GET", "key"), "the client to find a master") == b"1"
        assert eventually(lambda: answer("SET", "key", 2), "the client to find the new master")
        assert (sentinel.revive() if kill else sentinel.wait_demoted()) is old
        with (
            redis.Redis.from_url(old.url, retry=NEVER) as stale,
            pytest.raises(redis.exceptions.ReadOnlyError),
        ):
            stale.set("key", 3)
