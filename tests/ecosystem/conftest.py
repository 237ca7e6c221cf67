from tests.redis_support.fixtures import *  # noqa: F403
