"""Values of any JSON type, in any place of another: for tests of what reads providers' events."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeAlias

from hypothesis import strategies as st

from tests.support.profile import EVERYTHING, scaled

__all__ = ["EXAMPLES", "VALUES", "Json", "Place", "changed", "places", "values"]

Json: TypeAlias = Any
Place: TypeAlias = tuple[int | str, ...]
"""The keys and indexes that lead to a value within another."""

EXAMPLES = 20_000 if EVERYTHING else scaled(300)
"""How many examples a test draws."""


def places(value: Json, place: Place = ()) -> Iterator[Place]:
    """Every place in a value: itself, each field, each item, at any depth."""
    yield place
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, item in inner:
        yield from places(item, (*place, key))


def changed(event: Json, place: Place, value: Json) -> Json:
    """The event with another value at `place`."""
    if not place:
        return value
    copied = copy.deepcopy(event)
    inner = copied
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copied


VALUES: list[Json] = [None, True, 5, "x", [], {}, [None], [[{}]]]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "\ud83d", "\x00", "0", "-1"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "id", "index", "x"]) | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)
