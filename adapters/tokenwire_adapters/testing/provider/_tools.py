"""Tool calls: which tool a prompt asks for, and arguments that fit the tool's JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tokenwire_adapters.testing._json import as_list, as_object
from tokenwire_adapters.testing.provider._json import as_text, clean, dumps

__all__ = ["Tool", "arguments_for", "choose_tools", "example_for"]

_WORD = re.compile(r"[a-z]+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# A name with a capital letter after a preposition: "the weather in São Paulo".
_PLACE = re.compile(r"\b(?:in|to|for|from|of|at)\s+([^\W\d_a-z][\w'-]*(?:\s[^\W\d_a-z][\w'-]*)*)")
_SMALL_WORDS = frozenset(
    ["a", "an", "and", "the", "of", "for", "in", "to", "at", "get", "is", "what"]
)
_MAX_DEPTH = 12
_MAX_TEXT = 400
_MAX_FIELDS = 100


class Tool(NamedTuple):
    """A tool that the request offers."""

    name: str
    schema: dict[str, Any]


def choose_tools(tools: tuple[Tool, ...], prompt: str, *, parallel: bool) -> tuple[Tool, ...]:
    """Pick the tools whose names share a word with the prompt, else the first one."""
    words = frozenset(_WORD.findall(prompt.lower()))
    matching = [tool for tool in tools if words & _name_words(tool.name)]
    chosen = matching or list(tools[:1])
    return tuple(chosen if parallel else chosen[:1])


def arguments_for(tool: Tool, prompt: str) -> str:
    """JSON text of arguments that fit the tool's schema and, where it can, the prompt."""
    return dumps(example_for(tool.schema, prompt) if tool.schema else {})


def example_for(schema: dict[str, Any], prompt: str) -> Any:
    """Make a value that fits ``schema``: its own example, or one from words of ``prompt``."""
    numbers = iter([float(number) for number in _NUMBER.findall(prompt)[:_MAX_FIELDS]])
    return _ExampleMaker(schema, prompt, numbers).make(schema, "", 0)


def _name_words(name: str) -> frozenset[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return frozenset(_WORD.findall(spaced.lower())) - _SMALL_WORDS


class _ExampleMaker:
    """Makes a value for one schema and one prompt."""

    def __init__(self, root: dict[str, Any], prompt: str, numbers: Iterator[float]) -> None:
        self._root = root
        self._prompt = prompt
        self._numbers = numbers

    def make(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        if depth > _MAX_DEPTH:  # a schema may refer to itself
            return None
        schema = self._resolve(schema)
        for keyword in ("const", "default"):
            if keyword in schema:
                return schema[keyword]
        for keyword in ("enum", "examples"):
            if values := as_list(schema.get(keyword)):
                return values[0]
        for union in ("anyOf", "oneOf"):
            options = [as_object(option) for option in as_list(schema.get(union))]
            if options:
                chosen = next((o for o in options if o.get("type") != "null"), options[0])
                return self.make(chosen, name, depth + 1)
        return self._typed(schema, name, depth)

    def _resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        for _ in range(_MAX_DEPTH):
            if combined := as_list(schema.get("allOf")):
                schema = as_object(combined[0])
            elif reference := as_text(schema.get("$ref")):
                target: dict[str, Any] = self._root
                for step in reference.removeprefix("#/").split("/"):
                    target = as_object(target.get(step))
                schema = target
            else:
                break
        return schema

    def _typed(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type")
        if types := as_list(kind):
            kind = next((name for name in types if name != "null"), "null")
        if kind == "object" or "properties" in schema:
            return self._object(schema, depth)
        if kind == "array":
            return [self.make(as_object(schema.get("items")), name, depth + 1)]
        if kind in ("integer", "number"):
            number = self._number(schema)
            return int(number) if kind == "integer" or number.is_integer() else number
        if kind == "boolean":
            return True
        if kind == "null":
            return None
        return self._string(schema, name)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = as_object(schema.get("properties"))
        required = [as_text(field) for field in as_list(schema.get("required"))]
        names = [field for field in required if field in properties] or list(properties)
        return {
            clean(field): self.make(as_object(properties[field]), field, depth + 1)
            for field in names[:_MAX_FIELDS]
        }

    def _number(self, schema: dict[str, Any]) -> float:
        number = next(self._numbers, None)
        if number is None or not -1e15 < number < 1e15:
            number = 3.0
        low, high = schema.get("minimum"), schema.get("maximum")
        if isinstance(low, int | float):
            number = max(number, float(low))
        if isinstance(high, int | float):
            number = min(number, float(high))
        return number

    def _string(self, schema: dict[str, Any], name: str) -> str:
        examples = {
            "date": "2026-03-14",
            "date-time": "2026-03-14T15:09:26Z",
            "email": "zoe@example.org",
        }
        if fixed := examples.get(as_text(schema.get("format"))):
            return fixed
        place = _PLACE.search(self._prompt)
        wants_place = any(word in name.lower() for word in ("city", "location", "place", "country"))
        if wants_place:
            text = place.group(1) if place else "København"
        else:
            text = " ".join(self._prompt.split())[:_MAX_TEXT] or "hello"
        limit = schema.get("maxLength")
        return text[:limit] if isinstance(limit, int) and limit >= 0 else text
