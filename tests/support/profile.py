"""How much a run of the tests looks at: ``TOKENWIRE_TEST_PROFILE``.

``quick``
    The default, for a developer who waits: few examples, combinations by pairs.
``ci``
    What `tox` runs: more examples, the same ones each time.
``everything``
    Every combination, and many examples: `tox -e everything`.
"""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import HealthCheck, settings

__all__ = [
    "EVERYTHING",
    "PROFILE",
    "by_pairs",
    "chosen",
    "fuzzed",
    "load_hypothesis",
    "scaled",
    "take_in_turn",
]

T = TypeVar("T")

Profile = Literal["quick", "ci", "everything"]

_EXAMPLES: dict[str, int] = {"quick": 25, "ci": 60, "everything": 500}


def _profile() -> Profile:
    name = os.environ.get("TOKENWIRE_TEST_PROFILE") or ("ci" if os.environ.get("CI") else "quick")
    if name not in ("quick", "ci", "everything"):
        raise ValueError(f"TOKENWIRE_TEST_PROFILE is quick, ci or everything, not {name!r}")
    return name


PROFILE: Profile = _profile()
EVERYTHING = PROFILE == "everything"


def load_hypothesis() -> None:
    """Set what tests of hypothesis draw by default."""
    for name, examples in _EXAMPLES.items():
        settings.register_profile(
            name,
            deadline=None,  # it would measure the machine, not the code
            derandomize=name == "ci",  # CI says the same twice
            max_examples=examples,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        )
    settings.load_profile(PROFILE)


def fuzzed() -> int:
    """How many examples a fuzzer draws: few where somebody waits, 20,000 with ``everything``."""
    return {"quick": 60, "ci": 200, "everything": 20_000}[PROFILE]


def scaled(examples: int) -> int:
    """How many examples a test draws that asks for `examples` where others have 100."""
    return max(1, examples * _EXAMPLES[PROFILE] // 100)


def chosen(
    combinations: Iterable[T],
    *,
    each: Callable[[T], Sequence[Hashable]],
    pairs: Callable[[T], Sequence[Hashable]],
) -> list[T]:
    """Choose combinations that cover what matters; with ``everything``, take all.

    :param each: values of a combination that are to be met once, whatever with.
    :param pairs: values of which every two that can meet are to be met together.
    :return: in the order given; the same in every run and process.
    """
    rows = list(combinations)
    if EVERYTHING:
        return rows

    def covers(row: T) -> set[Hashable]:
        singles = {("each", place, value) for place, value in enumerate(each(row))}
        both = set(itertools.combinations(enumerate(pairs(row)), 2))
        return singles | both

    covered = [covers(row) for row in rows]
    open_ = set().union(*covered)
    taken: set[int] = set()
    while open_:
        best = max(range(len(rows)), key=lambda at: (len(covered[at] & open_), -at))
        taken.add(best)
        open_ -= covered[best]
    return [rows[at] for at in sorted(taken)]


def by_pairs(*axes: Sequence[Hashable]) -> list[tuple[Any, ...]]:
    """Combine values so that every two of different axes meet; with ``everything``, all."""
    return chosen(itertools.product(*axes), each=lambda row: (), pairs=lambda row: row)


def take_in_turn(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out combinations with the parameter that a mark ``in_turn`` names.

    Cases are what the other parameters of a test make. Each case is run once, with the values of
    the named one in turn, or each value once where there are fewer cases than values: six cases
    and two ways are six tests instead of twelve. Where cases are made by several parameters, each
    value of these meets each way, too. With ``everything``, nothing is left out.
    """
    tests: dict[str, list[tuple[pytest.Item, str, dict[str, str]]]]
    tests = collections.defaultdict(list)
    for item in items:
        mark = None if EVERYTHING else item.get_closest_marker("in_turn")
        params = getattr(getattr(item, "callspec", None), "params", {})
        if mark is not None and mark.args[0] in params:
            given = {name: repr(value) for name, value in params.items()}
            value = given.pop(mark.args[0])
            tests[item.nodeid.partition("[")[0]].append((item, value, given))
    left_out: set[pytest.Item] = set()
    for rows in tests.values():
        values = list(dict.fromkeys(value for _, value, _ in rows))
        cases = list({str(case): case for _, _, case in rows}.values())
        fewer = min(len(values), len(cases))
        numbers = _diagonals(cases)
        if {number % fewer for number in numbers} != set(range(fewer)):
            numbers = list(range(len(cases)))
        for item, value, case in rows:
            if values.index(value) % fewer != numbers[cases.index(case)] % fewer:
                left_out.add(item)
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _diagonals(cases: Sequence[dict[str, str]]) -> list[int]:
    """Number cases so that another value of any one parameter is another number."""
    values = {name: list(dict.fromkeys(case[name] for case in cases)) for name in cases[0]}
    return [sum(values[name].index(case[name]) for name in values) for case in cases]
