"""The choice of combinations covers what it says, and is the same in every process."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support import profile
from tests.support.profile import chosen

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
