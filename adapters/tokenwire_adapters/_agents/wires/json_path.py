"""Arguments of a Gemini function call that come value by value, each at a JSON path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from tokenwire import PartWriter
from tokenwire_adapters._agents.values import arguments_of, dict_of, str_of, to_json

__all__ = ["PartialArguments"]

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,6})\]|\[(?:'([^']*)'|"([^"]*)")\]""")
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")
_MAX_LENGTH = 10_000  # items of a list


class PartialArguments:
    """The arguments of one call, put together from ``partialArgs``.

    A text may come in several pieces; all pieces have the same path.
    https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling

    :param part: the call's part.
    :param args: what came whole.
    """

    def __init__(self, part: PartWriter, args: Any) -> None:
        self._part = part
        self._args: dict[str, Any] = dict_of(to_json(args))

    def add(self, piece: Mapping[str, Any]) -> None:
        """Take one entry of ``partialArgs``; one that cannot be read is left out."""
        path = str_of(piece.get("jsonPath"))
        steps = _steps(path)
        name = next((name for name in _VALUES if name in piece), None)
        if steps and name is not None:
            value = None if name == "nullValue" else to_json(piece[name])
            _put(self._args, steps, value)

    def write(self) -> None:
        """Write the arguments, as JSON."""
        self._part.write(arguments_of(self._args))


def _steps(path: str) -> list[str | int]:
    """The keys and indexes of a path; none where it cannot be read."""
    steps: list[str | int] = []
    position = 1
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            return []
        key = next(group for group in match.groups() if group is not None)
        steps.append(int(key) if match[2] is not None else key)
        position = match.end()
    return steps if path.startswith("$") else []


def _put(container: Any, steps: list[str | int], value: Any) -> None:
    """Put a value where a path leads; text is appended to the text that is there."""
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            if not isinstance(container, list) or step >= _MAX_LENGTH:
                return
            items = cast("list[Any]", container)
            items.extend([None] * (step + 1 - len(items)))
        elif not isinstance(container, dict):
            return
        fields = cast("dict[int | str, Any]", container)  # or a list, for an index
        inner: Any = fields[step] if isinstance(step, int) else fields.get(step)
        if following is None:
            is_text = isinstance(inner, str) and isinstance(value, str)
            fields[step] = inner + value if is_text else value
            return
        if not isinstance(inner, dict | list):
            fields[step] = [] if isinstance(following, int) else {}
        container = fields[step]
