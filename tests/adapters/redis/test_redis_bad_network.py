"""The whole contract through a bad network, with faults that hypothesis chooses.

For each example of hypothesis, a test of the contract runs with several scripts of faults at once,
each through a proxy of its own; in half of them replays come in the smallest pages.
``TOKENWIRE_TEST_FAULT_EXAMPLES=50`` runs more examples.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.redis_support import FaultyProxy, RedisServer, Script, scripts
from tokenwire.backend import Backend, Granularity
from tokenwire.testing import BackendContract
from tokenwire_adapters.redis import RedisBackend

pytestmark = [pytest.mark.slow, pytest.mark.redis]

EXAMPLES = int(os.environ.get("TOKENWIRE_TEST_FAULT_EXAMPLES", "2"))
TOGETHER = 4
# These wait for a lease to run out, or not to: it must outlast the faults, so they are short.
OF_LEASES = {
    "test_a_dead_producer_is_noticed_by_watchers",
    "test_a_dead_producer_is_noticed_in_history",
    "test_a_response_is_abandoned_once_whoever_notices",
    "test_late_writes_of_a_dead_producer_change_nothing",
    "test_a_quiet_producer_keeps_its_response",
}


class FaultyContract(BackendContract):
    """The contract over a proxy that plays a script of faults."""

    patience = 60.0
    lease = 2.5

    def __init__(self, server: RedisServer, page_bytes: int) -> None:
        self.server = server
        self.options = {"health": 0.5, "page_bytes": page_bytes}

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        return lambda: RedisBackend(self.proxy.url, granularity=granularity, **self.options)

    def play(self, name: str, faults: Script) -> None:
        """Run a test of the contract with these faults."""
        with FaultyProxy((self.server.host, self.server.port)) as self.proxy:
            self.setup_method()
            playing = self.proxy.play(faults)
            try:
                getattr(self, name)()
            finally:
                playing.cancel()
                self.proxy.heal()
                self.teardown_method()


def _fault_scripts(name: str) -> st.SearchStrategy[list[Script]]:
    faults = scripts(longest=0.2, min_size=1, max_size=3 if name in OF_LEASES else 6)
    return st.lists(faults, min_size=TOGETHER, max_size=TOGETHER)


CONTRACT = sorted(name for name in dir(BackendContract) if name.startswith("test_"))


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_with_any_faults(shared_redis, name):
    # Nothing is shrunk: the same faults come at other moments when they are played again.
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_fault_scripts(name))
    def check(fault_scripts: list[Script]) -> None:
        with ThreadPoolExecutor(TOGETHER) as pool:
            runs = [
                pool.submit(FaultyContract(shared_redis, 1 if page else 2**20).play, name, faults)
                for page, faults in zip(itertools.cycle((False, True)), fault_scripts)
            ]
        for faults, run in zip(fault_scripts, runs, strict=True):
            if run.exception() is not None:
                note(f"the faults: {faults}")
        for run in runs:
            run.result()

    check()
