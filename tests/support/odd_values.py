"""Values that JSON encoders refuse, and what they become at the producer's side."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import types
import uuid
from typing import Any

__all__ = ["KEPT", "REPLACED", "Nameless", "Text"]


class Nameless:
    """An object without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Text(str):  # noqa: SLOT000
    """A string of a class of its own, as of markupsafe, whose `str` is another one."""

    def __str__(self) -> str:
        return "something else"


class Int(int):
    pass


class Float(float):
    """As `numpy.float64` is."""


class Colour(str, enum.Enum):  # noqa: UP042 - its `str` is not its value
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


class Model:
    def model_dump(self, mode: str = "python") -> Any:
        return {"mode": mode, "nan-free": True}


class Scalar:
    """As a scalar of numpy that is no float of Python."""

    def tolist(self) -> Any:
        return 2.5


def _nested(depth: int) -> Any:
    value: Any = "core"
    for _ in range(depth):
        value = [value]
    return value


def _shared(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value, value]
    return value


def _cycle() -> Any:
    cycle: dict[str, Any] = {"a": 1}
    cycle["self"] = cycle
    return cycle


def _cyclic_point() -> Point:
    point = Point(1)
    point.y = point
    return point


KEPT: dict[str, tuple[Any, Any]] = {
    "float subclass": (Float(0.5), 0.5),
    "int subclass": (Int(7), 7),
    "bool": (True, True),
    "str subclass": (Text("text"), "text"),
    "enum of strings": (Colour.RED, "red"),
    "enum of ints": (Number.ONE, 1),
    "decimal": (decimal.Decimal("1.5"), "1.5"),
    "fraction": (fractions.Fraction(1, 2), "1/2"),
    "complex": (1 + 2j, "(1+2j)"),
    "largest int": (2**64 - 1, 2**64 - 1),
    "smallest int": (-(2**63), -(2**63)),
    "larger int": (2**64, str(2**64)),
    "int of 4,000 digits": (10**3999, str(10**3999)),
    "bytes": (b"abc", "YWJj"),
    "bytearray": (bytearray(b"abc"), "YWJj"),
    "set": ({1}, [1]),
    "frozenset": (frozenset({1}), [1]),
    "tuple": ((1, (2,)), [1, [2]]),
    "deque": (collections.deque([1]), [1]),
    "array": (array.array("d", [1.5]), [1.5]),
    "keys": ({"a": 1}.keys(), ["a"]),
    "uuid": (uuid.UUID(int=5), str(uuid.UUID(int=5))),
    "date": (datetime.date(2026, 1, 2), "2026-01-02"),
    "mapping": (types.MappingProxyType({"a": Float(1)}), {"a": 1.0}),
    "user dict": (collections.UserDict(a=Float(1)), {"a": 1.0}),
    "ordered dict": (collections.OrderedDict(a=Float(1)), {"a": 1.0}),
    "keys that are no strings": ({1: 2, None: 3, 2.5: 4}, {"1": 2, "None": 3, "2.5": 4}),
    "keys of a string class": ({Text("k"): 1, Colour.RED: 2}, {"k": 1, "red": 2}),
    "dataclass": (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": 0}}),
    "dataclass with odd fields": (Point(Scalar(), Float(1)), {"x": 2.5, "y": 1.0}),
    "model": (Model(), {"mode": "json", "nan-free": True}),
    "scalar": (Scalar(), 2.5),
    "nested": (_nested(60), _nested(60)),
    "null character": ("a\x00b", "a\x00b"),
}
"""What becomes something else without a loss: given, and kept."""

REPLACED: dict[str, tuple[Any, Any]] = {
    "nan": (math.nan, None),
    "infinity": (-math.inf, None),
    "nan of a class": (Float("nan"), None),
    "nan inside": ({"a": [math.nan, 1]}, {"a": [None, 1]}),
    "nan in a dataclass": (Point(math.nan), {"x": None, "y": 0}),
    "int of 5,000 digits": (10**5000, "<int of 16610 bits>"),
    "lone surrogate": ("a\ud800", "a\ufffd"),
    "lone surrogate in a key": ({"\udfff": 1}, {"\ufffd": 1}),
    "nameless": (Nameless(), "<Nameless>"),
    "nameless key": ({Nameless(): 1}, {"<Nameless>": 1}),
    "nameless in a dataclass": (Point(Nameless()), {"x": "<Nameless>", "y": 0}),
    "keys that become one": ({1: "a", "1": "b"}, {"1": "b"}),
    "cycle": (_cycle(), {"a": 1, "self": "..."}),
    "cycle of objects": (_cyclic_point(), {"x": 1, "y": "..."}),
    "nested too deep": (_nested(100_000), None),
    "more than there are atoms": (_shared(60), None),
}
"""What loses something: given, and kept (None where that is not worth spelling out)."""
