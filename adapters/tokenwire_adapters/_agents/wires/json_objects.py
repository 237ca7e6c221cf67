"""JSON whose objects have attributes: what reads an SDK's objects reads decoded JSON as well."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MAX_DEPTH", "JsonObject", "decode"]

MAX_DEPTH = 100
"""How deep JSON may be nested."""

_OPENERS = ("[", "{")


class JsonObject(dict[str, Any]):
    """A JSON object; its keys can also be read as attributes.

    A method of `dict` comes before a key of its name. A key that is absent raises `AttributeError`.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def model_extra(self) -> JsonObject:
        """What an SDK's class may have no field for: any key."""
        return self


def decode(data: bytes | str) -> Any:
    """Decode JSON, with `JsonObject` for objects at every level.

    :raises ValueError: for what is not JSON, or is nested deeper than `MAX_DEPTH`.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        value = json.loads(text, object_hook=JsonObject)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    if sum(map(text.count, _OPENERS)) > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError("JSON is nested too deeply")
    return value


def _depth(value: Any) -> int:
    """How many containers are inside each other."""
    depth, level = 0, [value]
    while True:
        lists: list[list[Any]] = [item for item in level if isinstance(item, list)]
        objects: list[JsonObject] = [item for item in level if isinstance(item, JsonObject)]
        if not lists and not objects:
            return depth
        depth += 1
        level = [inner for items in lists for inner in items]
        level += [inner for fields in objects for inner in fields.values()]
