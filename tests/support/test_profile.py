"""The choice of combinations covers what it says, and is the same in every process."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import profile
from tests.support.profile import chosen, take_in_turn

ROWS = list(itertools.product("abcdefgh", range(5), (True, False), "xyz"))


def _chosen() -> list[Any]:
    return chosen(ROWS, each=lambda row: row[:1], pairs=lambda row: row[1:])


@pytest.mark.skipif(profile.EVERYTHING, reason="everything is taken")
def test_every_value_and_every_pair_is_met_in_few_rows() -> None:
    rows = _chosen()
    assert {row[0] for row in rows} == set("abcdefgh")
    for one, two in itertools.combinations((1, 2, 3), 2):
        assert {(row[one], row[two]) for row in rows} == {(row[one], row[two]) for row in ROWS}
    assert len(rows) <= 20
    assert rows == _chosen()
    assert rows == sorted(rows, key=ROWS.index)


def test_everything_is_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "EVERYTHING", True)
    assert _chosen() == ROWS


class Item:
    """What pytest collects, as far as the choice looks at it."""

    def __init__(self, test: str, **params: Any) -> None:
        self.nodeid = f"{test}[{params}]"
        self.callspec = SimpleNamespace(params=params)
        self.row = (test, *params.values())

    def get_closest_marker(self, name: str) -> pytest.Mark:
        assert name == "in_turn"
        return pytest.mark.in_turn("way").mark


def _left(*items: Item) -> list[tuple[Any, ...]]:
    left: Any = list(items)
    config: Any = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: None))
    take_in_turn(config, left)
    return [item.row for item in left]


@pytest.mark.skipif(profile.EVERYTHING, reason="everything is taken")
def test_ways_are_taken_in_turn() -> None:
    many = [Item("many", way=way, case={case}) for way in "ab" for case in range(5)]
    few = [Item("few", way=way, case=case) for way in "abc" for case in (1, 2)]
    alone = [Item("alone", way=way) for way in "ab"]
    other = [Item("other", case=case) for case in range(2)]
    assert sorted(_left(*many), key=str) == [
        ("many", "a", {0}),
        ("many", "a", {2}),
        ("many", "a", {4}),
        ("many", "b", {1}),
        ("many", "b", {3}),
    ]
    assert _left(*few) == [("few", "a", 1), ("few", "b", 2), ("few", "c", 1)]
    assert _left(*alone, *other) == [item.row for item in (*alone, *other)]


@pytest.mark.skipif(profile.EVERYTHING, reason="everything is taken")
def test_each_way_meets_each_value_of_parameters_that_make_the_cases() -> None:
    rows = [
        Item("many", way=way, kind=kind, inside=inside, server=server)
        for way, kind, inside, server in itertools.product("ab", "xy", (1, 2), range(3))
    ]
    left = _left(*rows)
    assert len(left) == 12
    for place, count in ((2, 2), (3, 2), (4, 3)):
        assert len({(row[1], row[place]) for row in left}) == 2 * count


def test_everything_takes_nothing_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "EVERYTHING", True)
    rows = [Item("many", way=way, case=case) for way in "ab" for case in range(5)]
    assert _left(*rows) == [item.row for item in rows]
