"""Every entry point of the distribution loads when every extra is installed."""

from importlib.metadata import EntryPoint, distribution
from typing import Any

import pytest

from tests.support.needs import missing

ENTRY_POINTS = list(distribution("tokenwire").entry_points)


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ImportError as error:
        missing(str(error))


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=lambda entry: f"{entry.group}:{entry.name}")
def test_entry_point_loads(entry: EntryPoint) -> None:
    assert _loaded(entry) is not None


def test_the_groups_are_there() -> None:
    groups = {entry.group for entry in ENTRY_POINTS}
    assert groups >= {"console_scripts", "pytest11", "tokenwire.backends", "tokenwire.formats"}
    assert "tokenwire.instrumentors" in groups


INSTRUMENTORS = [entry for entry in ENTRY_POINTS if entry.group == "tokenwire.instrumentors"]


@pytest.mark.parametrize("entry", INSTRUMENTORS, ids=lambda entry: entry.name)
def test_an_instrumentor_has_the_name_of_its_module(entry: EntryPoint) -> None:
    assert _loaded(entry).module == entry.name
