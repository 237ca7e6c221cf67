"""The gate for values of the agent: what passes it can be encoded by every codec.

An agent may hand over anything as metadata, usage, data, a tool's output or an id. Here it becomes
a copy made of None, bool, int, float, str, list and dict, of exactly these types. What has no such
form is replaced, and `Arguments` says so.
"""

from __future__ import annotations

import array
import dataclasses
import math
from collections import deque
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from enum import Enum
from types import NoneType
from typing import Any, cast
from uuid import UUID

import msgspec

from tokenwire._ids import check_name
from tokenwire._text import well_formed
from tokenwire.errors import InvalidName, InvalidValue

__all__ = ["MAX_DEPTH", "MAX_VALUES", "Arguments", "id_text", "plain", "text_of"]

MAX_DEPTH = 64
"""How deep values may be nested; decoders of other languages have limits of their own."""
MAX_VALUES = 1_000_000
"""How many values one argument may have, a list or mapping counted as ten more: nested lists that
share their items can have more than there are atoms."""

_INTS = range(-(2**63), 2**64)  # what msgpack can hold
_CONTAINER = 10
_MAX_NAMED = 8  # places of replaced values that an error names
_MAX_FLAT = 64  # items of a dict that may be plain as it is
_COPIES = 8  # tries to copy a mapping that another thread changes


def plain(value: Any) -> Any:
    """Turn `value` into a copy that JSON and msgpack can hold. Never raises.

    Numbers, strings, mappings and sequences of any class become those of Python; dataclasses,
    enums, dates, models and arrays their usual JSON form; keys strings; everything else its `str`.
    What has no form at all is replaced (see `Arguments`, which says what was).
    """
    return Arguments().value("value", value)


class Arguments:
    """Makes the arguments of one call plain, and remembers what had to be replaced.

    Replaced are: NaN and infinity by None, lone surrogates by U+FFFD, ints of more than 4,300
    digits, what is nested in itself or deeper than `MAX_DEPTH`, what comes after `MAX_VALUES`, and
    what fails when it is read, by a word on it; ids and mappings that are none, by None.

    :ivar replaced: where and why, for people.
    """

    __slots__ = ("_left", "_names", "_path", "replaced")

    def __init__(self) -> None:
        self.replaced: list[str] = []
        self._names = 0  # how many of them are ids
        # The ids of the containers that are being read, and the keys that lead to them.
        self._path: list[tuple[int, Any]] = [(0, "value")]
        self._left = MAX_VALUES

    @property
    def error(self) -> InvalidName | InvalidValue | None:
        """What to report, if anything was replaced."""
        if not self.replaced:
            return None
        kind = InvalidName if self._names == len(self.replaced) else InvalidValue
        named = self.replaced[:_MAX_NAMED]
        more = len(self.replaced) - len(named)
        return kind("; ".join(named) + (f"; and {more} more" if more else ""))

    # -- whole arguments

    def value(self, name: str, value: Any) -> Any:
        """Make an argument plain.

        :param name: of the argument, for the error.
        """
        if value is None:
            return None
        if type(value) is dict:
            plain = _flat(cast("dict[Any, Any]", value))
            if plain is not None:
                return plain
        self._path = [(0, name)]
        self._left = MAX_VALUES
        return self._value(value)

    def mapping(self, name: str, value: Any) -> dict[str, Any] | None:
        """Make a mapping, or an object that has fields, plain; None where it is neither."""
        result = self.value(name, value)
        if result is None or isinstance(result, dict):
            return cast("dict[str, Any] | None", result)
        self._path = [(0, name)]
        self._replace(value, f"a mapping is needed, not {_type_name(value)}: left out", None)
        return None

    def text(self, name: str, value: Any) -> str | None:
        """Make an argument text: a string's characters, an enum's value, else the `str`."""
        if value is None:
            return None
        self._path = [(0, name)]
        return self._text(value)

    def identifier(self, name: str, value: Any) -> str | None:
        """Make an argument an id; UUIDs and ints become strings. What cannot be one is left out."""
        if value is None:
            return None
        try:
            return check_name(id_text(value), name)
        except InvalidName as error:
            self._names += 1
            self.replaced.append(f"{error}: left out")
            return None

    # -- what is in them

    def _replace(self, value: Any, why: str, by: Any) -> Any:
        if len(self.replaced) < _MAX_NAMED:
            (_, place), *inner = self._path
            keys = [f"[{ascii(key)[:40]}]" for _, key in inner if key is not None]
            place += "".join(keys[:4]) + ("[...]" if len(keys) > 4 else "")
            self.replaced.append(f"{place}: {why}")
        else:
            self.replaced.append(_type_name(value))
        return by

    def _value(self, value: Any) -> Any:
        if _is_atom(value):
            return value
        try:
            return self._other(value)
        except Exception as error:  # the value's own code, or an agent deep in its own stack
            why = f"{_type_name(value)} cannot be read ({_type_name(error)})"
            return self._replace(value, why, f"<{_type_name(value)}>")

    def _other(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return self._value(value.value)
        if isinstance(value, int):
            return self._int(int.__int__(value))
        if isinstance(value, float):
            return self._float(float.__float__(value))
        if isinstance(value, str):
            return self._well_formed(str.__str__(value))
        if isinstance(value, dict):
            # A copy in one go: another thread may change the original meanwhile, even while a list
            # is made of its items, where the collector runs.
            is_plain = type(cast("Any", value)) is dict
            copy = cast("Any", value).copy() if is_plain else cast("Any", value)
            return self._mapping(value, list(_dict_items(copy)))
        if isinstance(value, Mapping):
            return self._mapping(value, _items(cast("Mapping[Any, Any]", value)))
        if isinstance(value, _SEQUENCES):
            return self._sequence(value, _copy(value))
        return self._converted(value)

    def _int(self, value: int) -> Any:
        if value in _INTS:
            return value
        try:
            return str(value)
        except ValueError:  # more digits than Python converts, since that takes long
            why = f"an int of {value.bit_length()} bits has too many digits"
            return self._replace(value, why, f"<int of {value.bit_length()} bits>")

    def _float(self, value: float) -> Any:
        if math.isfinite(value):
            return value
        return self._replace(value, f"{value} is not JSON: replaced by null", None)

    def _well_formed(self, value: str) -> str:
        text = well_formed(value)
        if text is not value:
            self._replace(value, "a lone surrogate is no character: replaced by U+FFFD", None)
        return text

    def _text(self, value: Any) -> str:
        try:
            return self._well_formed(text_of(value))
        except Exception as error:
            why = f"{_type_name(value)} has no text ({_type_name(error)})"
            return cast("str", self._replace(value, why, f"<{_type_name(value)}>"))

    def _nested(self, value: Any, key: Any) -> Any:
        if _is_atom(value):
            return value
        self._path.append((0, key))
        try:
            return self._value(value)
        finally:
            self._path.pop()

    def _refused(self, value: Any, size: int) -> bool:
        """Whether `value`, with so many items, is not to be read; else notes that it is."""
        if self._left < 0:
            return True
        self._left -= size + _CONTAINER
        if self._left < 0:
            self._replace(value, f"more than {MAX_VALUES:,} values: cut", None)
        elif len(self._path) > MAX_DEPTH:
            self._replace(value, f"nested deeper than {MAX_DEPTH}: replaced by '...'", None)
        elif any(id(value) == at for at, _ in self._path):
            self._replace(value, "contains itself: replaced by '...'", None)
        else:
            self._path[-1] = (id(value), self._path[-1][1])
            return False
        return True

    def _mapping(self, value: Any, items: list[tuple[Any, Any]]) -> Any:
        if self._refused(value, len(items)):
            return "..."
        result: dict[str, Any] = {}
        for key, item in items:
            name = key if type(key) is str and key.isascii() else self._text(key)
            if name in result:
                self._replace(value, f"two keys are {ascii(name)[:40]}: the first is gone", None)
            result[name] = self._nested(item, name)
        return result

    def _sequence(self, value: Any, items: list[Any]) -> Any:
        if self._refused(value, len(items)):
            return "..."
        return [self._nested(item, number) for number, item in enumerate(items)]

    def _converted(self, value: Any) -> Any:
        """What an object of another class says of itself: its fields, items, or text."""
        if self._refused(value, 1):
            return "..."
        for convert in (_builtin, _model, _fields, _array):
            try:
                result = convert(value)
            except Exception:  # noqa: S112 - the value's own code: the next way may do
                continue
            if isinstance(result, _PLAIN):
                return self._nested(result, None)
        return self._text(value)


_PLAIN = (str, bool, int, float, list, tuple, dict, NoneType)
_SEQUENCES = (
    list,
    tuple,
    set,
    frozenset,
    deque,
    array.array,
    KeysView,
    ValuesView,
    ItemsView,
)


def _flat(value: dict[Any, Any]) -> dict[str, Any] | None:
    """A copy of a small dict of values that are plain as they are, quickly; None for any other."""
    if len(value) > _MAX_FLAT:
        return None
    copy = value.copy()  # in one go: another thread may change the original meanwhile
    for key, item in copy.items():
        if type(key) is not str or not key.isascii():
            return None
        if not (item.isascii() if type(item) is str else _is_atom(item)):
            return None
    return copy


def _is_atom(value: Any) -> bool:
    """Whether a value is plain as it is, quickly."""
    kind = cast("Any", type(value))
    if kind is str:
        return bool(value.isascii())
    if kind is int:
        return value in _INTS
    return kind is bool or value is None or (kind is float and math.isfinite(value))


def text_of(value: Any) -> str:
    """The text of a string of any class, of an enum's value, or the `str` of anything else.

    :raises Exception: whatever the value's own code raises.
    """
    while isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    text = str(value)
    return text if type(text) is str else str.__str__(text)


def id_text(value: Any) -> Any:
    """A UUID or an int as a string of that id; a string of any class as a plain one."""
    if isinstance(value, str | UUID | Enum) or (
        isinstance(value, int) and not isinstance(value, bool)
    ):
        try:
            return text_of(value)
        except Exception as error:
            raise InvalidName(f"{_type_name(value)} has no text ({_type_name(error)})") from None
    return value


_dict_items = cast("Any", dict).items  # not a subclass's, which may do anything


def _items(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    for _ in range(_COPIES - 1):
        try:
            return list(mapping.items())
        except RuntimeError:  # changed by another thread meanwhile
            continue
    return list(mapping.items())


def _copy(sequence: Any) -> list[Any]:
    for _ in range(_COPIES - 1):
        try:
            return list(sequence)
        except RuntimeError:  # changed by another thread meanwhile
            continue
    return list(sequence)


def _builtin(value: Any) -> Any:
    """Dates, bytes, Decimals, UUIDs, dataclasses, structs: as msgspec has them."""
    return msgspec.to_builtins(value, str_keys=True)


def _model(value: Any) -> Any:
    """Models of pydantic, and of what follows it."""
    try:
        return value.model_dump(mode="json")
    except Exception:  # it holds what pydantic cannot make JSON of; we may
        return value.model_dump()


def _fields(value: Any) -> Any:
    """Dataclasses that hold what msgspec does not know."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _array(value: Any) -> Any:
    """Scalars and arrays of numpy, and of what follows it."""
    return value.tolist()


def _type_name(value: Any) -> str:
    return type(value).__name__
