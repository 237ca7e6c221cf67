"""What every test shares."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Servers in tests listen on loopback: no proxy that the machine may have is asked for them.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1,localhost")))

# Deadlines measure the machine, not the code. CI looks at more examples than a developer waits for.
for _profile, _examples in (("quick", 50), ("thorough", 250)):
    settings.register_profile(
        _profile,
        deadline=None,
        derandomize=_profile == "thorough",  # CI says the same twice
        max_examples=_examples,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("thorough" if os.environ.get("CI") else "quick")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run coroutine tests on asyncio, which is what the provider SDKs and servers run on."""
    return "asyncio"
