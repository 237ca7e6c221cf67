"""Tests that run over both ways that event streams leave a server."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from tests.adapters.gateway import support

__all__ = ["parametrize_ways", "way"]


def parametrize_ways(metafunc: pytest.Metafunc, modules: Collection[str]) -> None:
    """Run the tests of these modules over both ways."""
    if metafunc.module.__name__.rpartition(".")[2] in modules:
        metafunc.parametrize("way", support.PROTOCOLS, indirect=True)


@pytest.fixture(autouse=True)  # so that it comes before any server
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How event streams leave a server: by ASGI's `send`, or over transports handed over."""
    monkeypatch.setattr(support, "way", getattr(request, "param", support.way))
    return support.way
