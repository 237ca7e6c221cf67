"""The tables of docs/scale.md are those of the model, which agrees with what was measured."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("scale")
    del sys.modules["scale"]


def test_the_page_has_the_models_tables(scale: Any) -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert scale.tables().strip() in page
    for table in scale.check().split("\n\n"):
        assert table in page


def test_the_model_agrees_with_what_was_measured(scale: Any) -> None:
    assert len(scale.MEASURED) - scale.FITTED >= 3
    for point in scale.MEASURED:
        assert 0.67 <= scale.predicted(point) / point.cpu_us_per_watcher <= 1.5, point
    for point in scale.CLUSTER:  # few tokens, each for itself, cost more than the model has
        assert 0.6 <= scale.gateway_us(point.channels, point.watchers) / point.cpu_us <= 1.5, point


def test_more_watchers_need_no_less(scale: Any) -> None:
    for scenario in scale.SCENARIOS:
        needed = [scale.needs(scenario, watchers) for watchers in scale.WATCHERS]
        for fewer, more in itertools.pairwise(needed):
            assert all(one <= other for one, other in zip(fewer, more, strict=True))
