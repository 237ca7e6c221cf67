import pytest

from tests.redis_support.fixtures import *  # noqa: F403
from tokenwire_adapters.redis import RedisBackend


@pytest.fixture
async def backend(shared_redis):
    created = RedisBackend(shared_redis.url)
    yield created
    await created.close()
