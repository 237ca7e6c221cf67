"""What every test shares."""

import gc
import importlib.util
import itertools
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cache import CACHE
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

# Node, from 22 on, keeps what it compiles: Playwright's driver and pages of Ably's start sooner.
os.environ.setdefault("NODE_COMPILE_CACHE", str(CACHE / "node-compile-cache"))

load_hypothesis()


@pytest.hookimpl(trylast=True)  # of what `-k` and `-m` leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out combinations, as marks ``in_turn`` say, and give several workers an order."""
    take_in_turn(config, items)
    if hasattr(config, "workerinput"):
        _slow_files_first(items)


def _slow_files_first(items: list[pytest.Item]) -> None:
    """Begin with files that take long: at the end, one worker would be at them alone.

    Those with browsers are spread among the others, which rather wait: for leases, for servers.
    """
    kinds: dict[Path, str] = {}
    for item in items:
        mark = next((name for name in ("browser", "slow") if item.get_closest_marker(name)), "")
        kinds[item.path] = max(kinds.get(item.path, ""), mark, key=("", "slow", "browser").index)
    place: dict[Path, float] = {}
    for kind in ("", "slow", "browser"):
        files = [file for file, its in kinds.items() if its == kind]
        for number, file in enumerate(files):
            place[file] = (kind == "") + (number + 0.5) / len(files)
    items.sort(key=lambda item: place[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """With ``-n auto``, use two workers more than there are cores: tests wait, too."""
    if config.option.numprocesses != "auto" or os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    return (os.cpu_count() or 1) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """In a fresh environment, let one worker collect first: what it compiles, the others load."""
    spec = None if sys.dont_write_bytecode else importlib.util.find_spec("openai")
    if spec is not None and spec.cached is not None and not Path(spec.cached).exists():
        folder = node.config._tmp_path_factory.getbasetemp()
        node.workerinput["first_has_collected"] = str(folder / "first_has_collected")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Have the collector pass over what modules hold: with all of them, it takes half a second.

    Many tests collect garbage, to see what the streams do that nobody has any more.
    """
    worker: dict[str, Any] = getattr(session.config, "workerinput", {})
    first_has_collected = worker.get("first_has_collected")
    if first_has_collected is not None and worker["workerid"] != "gw0":
        deadline = time.monotonic() + 180  # it may have died
        while not Path(first_has_collected).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    gc.disable()  # modules leave next to no garbage, among more and more that it would look at
    try:
        return (yield)
    finally:
        gc.enable()
        _pass_over_what_is_alive()
        if first_has_collected is not None:
            Path(first_has_collected).touch()


_ended = itertools.count(1)


def pytest_runtest_logfinish() -> None:
    """Have it pass over what SDKs build at their first use, too."""
    if next(_ended) % 10 == 0:
        _pass_over_what_is_alive()


def _pass_over_what_is_alive() -> None:
    with warnings.catch_warnings():
        # Of sockets that any test may have left, and clients of others do leave some: the next
        # test would fail for them.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # what is garbage already would stay for ever
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
