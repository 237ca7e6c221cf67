"""What every test shares."""

import gc
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.ports import ReservedPort
from tests.support.profile import load_hypothesis, take_in_turn

# Servers in tests listen on loopback: no proxy that the machine may have is asked for them.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1,localhost")))

# A shell without job control starts what runs in its background with SIGINT ignored, and so would
# be the programs that tests start, and stop as Ctrl-C does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# `nohup` has SIGHUP ignored: still here, but not in what tests start.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

load_hypothesis()


@pytest.hookimpl(trylast=True)  # of what `-k` and `-m` leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out combinations, as marks ``in_turn`` say, and have several workers begin with pages.

    Those take longest: at the end, one worker would be at them while the others have nothing to do.
    """
    take_in_turn(config, items)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("browser") is None)


def pytest_collection_finish() -> None:
    """Have the collector pass over what modules hold: with all of them, it takes half a second.

    Many tests collect garbage, to see what the streams do that nobody has any more.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run coroutine tests on asyncio, which is what the provider SDKs and servers run on."""
    return "asyncio"


@pytest.fixture
def reserved_port() -> Iterator[int]:
    """A loopback port where a server can start, stop and start again; nothing else gets it."""
    with ReservedPort() as port:
        yield port
