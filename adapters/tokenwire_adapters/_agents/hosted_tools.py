"""Tools that a provider runs itself, as the items of a `Response` of OpenAI: calls and results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenwire import PartWriter, ResponseWriter
from tokenwire_adapters._agents.values import (
    arguments_of,
    dict_of,
    fields_of,
    file_content,
    name_of,
    to_json,
)

__all__ = ["HOSTED_TOOLS", "HostedCall", "image_data", "is_provider_executed"]

HOSTED_TOOLS = {
    "web_search_call": ("web_search", ("action",)),
    "file_search_call": ("file_search", ("queries",)),
    "image_generation_call": ("image_generation", ("action", "prompt")),
}
"""Kinds of items whose call and result are one item: the tool's name, and the arguments' fields."""

_PROVIDER_RUN = frozenset({*HOSTED_TOOLS, "mcp_call", "code_interpreter_call"})
_HIDDEN = frozenset({"id", "type", "result", "encrypted_content", "fingerprint"})


def is_provider_executed(kind: str, fields: Mapping[str, Any]) -> bool:
    """Whether OpenAI runs the tool that an item calls.

    Shells and tool searches are run by whom the item says.
    """
    environment = name_of(fields_of(fields.get("environment")).get("type"))
    return (
        kind in _PROVIDER_RUN
        or fields.get("execution") == "server"
        or environment.startswith("container")
    )


def image_data(item: Any) -> dict[str, Any]:
    """The data of a file part for an item with a generated image."""
    fields = dict_of(to_json(item))
    format_ = name_of(fields.get("output_format")) or "png"
    shown = {key: value for key, value in fields.items() if key not in _HIDDEN}
    content = file_content(fields.get("result"))
    return {**shown, "media_type": f"image/{format_}", **content}


class HostedCall:
    """The call of a hosted tool: it begins with its item, and is answered when that is whole."""

    __slots__ = ("_argument_names", "_call_id", "_name", "_part", "_writer")

    def __init__(self, writer: ResponseWriter, kind: str, item_id: str, place: int | None) -> None:
        self._name, self._argument_names = HOSTED_TOOLS[kind]
        self._call_id = item_id or f"{self._name}-{place or 0}"
        self._writer = writer
        self._part: PartWriter = writer.tool_call(self._name, self._call_id, provider_executed=True)

    def complete(self, item: Any) -> None:
        """Write the arguments and the result that a whole item has."""
        fields = {key: value for key, value in dict_of(to_json(item)).items() if key not in _HIDDEN}
        arguments: dict[str, Any] = {}
        for name in self._argument_names:
            value = fields.pop(name, None)
            if isinstance(value, Mapping):
                arguments |= value
            elif value is not None:
                arguments[name] = value
        self._part.write(arguments_of(arguments) or "{}")
        error = "the tool failed" if fields.get("status") == "failed" else None
        self._writer.tool_result(self._call_id, fields, name=self._name, error=error)
