"""The pytest plugin: fixtures for testing an agent that streams. Loaded through an entry point.

========================  =======================================================================
``tokenwire_sink``        a strict sink on an in-memory store of its own, closed after the test
``tokenwire_backend``     the `FaultyBackend` under it, for tests of what happens when things break
``tokenwire_default``     makes ``tokenwire_sink`` the process's default sink while the test runs
========================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

try:
    import pytest
except ImportError as error:
    raise ImportError('the fixtures need pytest: pip install "tokenwire[pytest]"') from error

if TYPE_CHECKING:  # imported in the fixtures, so that test runs without them pay nothing
    from tokenwire import Sink
    from tokenwire.testing import FaultyBackend

__all__ = ["tokenwire_backend", "tokenwire_default", "tokenwire_sink"]


@pytest.fixture
def tokenwire_backend() -> FaultyBackend:
    """An in-memory backend with faults on demand: ``publish_faults``, ``kill()``, ``stall()``."""
    from tokenwire import MemoryBackend
    from tokenwire.testing import FaultyBackend

    return FaultyBackend(MemoryBackend(), inline=True)


@pytest.fixture
def tokenwire_sink(tokenwire_backend: FaultyBackend) -> Iterator[Sink]:
    """A strict sink: what would be logged raises. What a closed response wrote is visible."""
    from tokenwire import Sink

    sink = Sink(tokenwire_backend, strict=True)
    yield sink
    sink.close()


@pytest.fixture
def tokenwire_default(tokenwire_sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Sink:
    """The sink that code gets which names none (`tokenwire.default_sink`)."""
    monkeypatch.setattr("tokenwire.opening._default", tokenwire_sink)
    return tokenwire_sink
