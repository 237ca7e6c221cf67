"""How many commands a publish costs the server: each of them, inside scripts as well."""

from tests.adapters.redis.support import make_delta, make_entry, make_start
from tokenwire_adapters.redis import RedisBackend

TOKENS = 20


def commands(server):
    stats = server.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(row["calls"]) for name, row in stats.items()}


async def publish(backend, entry):
    (outcome,) = await backend.publish([entry])
    assert outcome.error is None


async def test_a_token_that_is_published_alone(redis_server):
    backend = RedisBackend(redis_server.url)
    lease = 3600.0  # else a slow machine renews it meanwhile
    try:
        await publish(backend, make_entry(1, make_start(), lease=lease))
        await publish(backend, make_entry(2, make_delta(0, "x"), lease=lease))
        before = commands(redis_server)
        for number in range(1, TOKENS + 1):
            entry = make_entry(number + 2, make_delta(number, "x"), lease=lease)
            await publish(backend, entry)
        after = commands(redis_server)
    finally:
        await backend.close()
    ran = {name: calls - before.get(name, 0) for name, calls in after.items() if name != "info"}
    assert sum(ran.values()) <= 9 * TOKENS, ran


async def test_a_full_log_is_not_trimmed_by_every_token(redis_server):
    backend = RedisBackend(redis_server.url, events=64)
    try:
        await publish(backend, make_entry(1, make_start()))
        for number in range(1000):
            if number == 200:  # the log is full
                before = commands(redis_server)
            await publish(backend, make_entry(number + 2, make_delta(number, "x")))
        after = commands(redis_server)
    finally:
        await backend.close()
    trims = after["xtrim"] - before["xtrim"]
    assert 0 < trims <= 800 / 4
