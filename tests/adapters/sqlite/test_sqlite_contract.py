"""The contract of all backends: whole on one file, and a smoke of it in other settings."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.support.contract import smoke
from tokenwire.backend import Backend, Granularity
from tokenwire.testing import BackendContract
from tokenwire_adapters._backends.sqlite.doorbell import Doorbell
from tokenwire_adapters.sqlite import SQLiteBackend


class TestOneFile(BackendContract):
    settings: Mapping[str, Any] = MappingProxyType({})

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        folder = Path(tempfile.mkdtemp())
        self.at_end(lambda: shutil.rmtree(folder))
        url = f"sqlite:///{folder}/chat.db"
        return lambda: SQLiteBackend(url, granularity=granularity, **self.settings)


@smoke
class TestPageByPage(TestOneFile):
    """Replays and history come in the smallest pages there are."""

    settings = MappingProxyType({"page_bytes": 1})


@smoke
class TestShortLog(TestOneFile):
    """Hardly an event can be continued after, so that readers are given snapshots."""

    settings = MappingProxyType({"events": 3})
    # These ask for events one by one.
    test_a_live_watcher_sees_everything = None  # type: ignore[assignment]
    test_granularity_token_keeps_every_token = None  # type: ignore[assignment]


@smoke
class TestWithoutDoorbell(TestOneFile):
    """Where there are no Unix sockets, listeners look for themselves."""

    @pytest.fixture(autouse=True)
    def _no_sockets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Doorbell, "listen", lambda self, on_bell: False)


@smoke
class TestLongPath(TestOneFile):
    """The path is longer than the address of a Unix socket may be."""

    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        folder = Path(tempfile.mkdtemp())
        self.at_end(lambda: shutil.rmtree(folder))
        deep = folder / ("d" * 120)
        deep.mkdir()
        return lambda: SQLiteBackend(f"sqlite:///{deep}/chat.db", granularity=granularity)
