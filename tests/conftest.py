"""What every test shares."""

import gc
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

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


_LARGE = ("openai", "anthropic", "langchain_openai", "langchain_anthropic", "llama_index.core")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """In a fresh environment, compile large packages once; else each worker would, at once."""
    found = [name for name in _LARGE if importlib.util.find_spec(name.partition(".")[0])]
    spec = importlib.util.find_spec(found[0]) if found else None
    if spec is not None and spec.cached is not None and not Path(spec.cached).exists():
        program = f"import {', '.join(found)}"
        subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Have the collector pass over what modules hold: with all of them, it takes half a second.

    Many tests collect garbage, to see what the streams do that nobody has any more.
    """
    gc.disable()  # modules leave next to no garbage, among more and more that it would look at
    try:
        return (yield)
    finally:
        gc.enable()
        _pass_over_what_is_alive()


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
