import pytest

from tests.redis_support.fixtures import *  # noqa: F403
from tokenwire_adapters.redis import RedisBackend


@pytest.fixture
async def backend(shared_redis):
    made = RedisBackend(shared_redis.url)
    yield made
    await made.close()
