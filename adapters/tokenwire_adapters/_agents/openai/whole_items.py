"""An output item of a `Response` that has come whole: what it says, whatever its fields hold."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tokenwire_adapters._agents.values import (
    arguments_of,
    dict_of,
    fields_of,
    list_of,
    name_of,
    str_of,
    to_json,
)

__all__ = ["GROWING_CALLS", "WholeItem", "WholeText"]

GROWING_CALLS = {
    "function_call": "call_id",
    "custom_tool_call": "call_id",
    "mcp_call": "id",
    "code_interpreter_call": "id",
}
"""Kinds of items whose arguments grow, and the field that is the call's id."""


class WholeText(NamedTuple):
    """A text of an item.

    :ivar kind: of the part that it becomes.
    :ivar sort: which of the item's texts it is, beside its place in the list of these.
    """

    kind: str
    sort: str
    place: int | None
    text: str


class WholeItem:
    """One item as an event, or the end of the response, has it.

    :ivar kind: its type; empty where it has none that can be read.
    :ivar id: empty where it has none; `call_id` likewise.
    """

    __slots__ = ("call_id", "fields", "id", "kind", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.fields = fields_of(value)
        self.kind = name_of(self.fields.get("type"))
        self.id = name_of(self.fields.get("id"))
        self.call_id = name_of(self.fields.get(GROWING_CALLS.get(self.kind, "call_id")))

    @property
    def arguments(self) -> Any:
        """The arguments of a tool call, of whatever type."""
        names = ("arguments", "input", "code")
        return next((self.fields[name] for name in names if self.fields.get(name)), None)

    @property
    def content(self) -> str:
        """All that it says."""
        if self.kind in ("message", "reasoning"):
            return "".join(text.text for text in self.texts)
        if self.kind in GROWING_CALLS:
            return arguments_of(self.arguments)
        fields = dict_of(to_json(self.value))
        data = {key: value for key, value in fields.items() if key != "id"}
        return json.dumps(data, sort_keys=True, default=str)

    @property
    def texts(self) -> list[WholeText]:
        """The texts of a message, or of a reasoning item."""
        if self.kind == "message":
            return self._of_message()
        return [
            WholeText("reasoning", sort, place, str_of(fields_of(text).get("text")))
            for sort in ("summary", "content")
            for place, text in enumerate(list_of(self.fields.get(sort)))
        ]

    def _of_message(self) -> list[WholeText]:
        texts: list[WholeText] = []
        contents = self.fields.get("content")
        if isinstance(contents, str):
            contents = [{"type": "output_text", "text": contents}]
        for place, content in enumerate(list_of(contents)):
            inner = fields_of(content)
            kind = inner.get("type")
            if kind in ("output_text", "text"):
                texts.append(WholeText("text", "text", place, str_of(inner.get("text"))))
            elif kind == "refusal":
                texts.append(WholeText("refusal", "refusal", place, str_of(inner.get("refusal"))))
            elif kind == "output_audio":
                texts.append(WholeText("text", "audio", place, str_of(inner.get("transcript"))))
        return texts
