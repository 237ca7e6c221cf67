"""What the requests of all APIs have in common: the conversation, tools, bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tokenwire_adapters.testing._json import as_list, as_object
from tokenwire_adapters.testing.provider._json import BadRequest, as_text
from tokenwire_adapters.testing.provider._replies import ModelRequest
from tokenwire_adapters.testing.provider._tools import Tool

__all__ = [
    "ANY_OBJECT",
    "Conversation",
    "objects",
    "offered_tools",
    "output_schema",
    "read_chat_messages",
    "read_count",
    "read_limit",
    "read_stops",
    "read_tools",
    "reasons",
    "restrict_tools",
    "text_of",
]

_MAX_TOOLS = 128
_REASONERS = ("reason", "think")
# The fields in which the APIs describe a tool's arguments.
_SCHEMAS = ("parameters", "input_schema", "parametersJsonSchema", "parameters_json_schema")
ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {"answer": {"type": "string"}}}


class Conversation:
    """The conversation so far: the last message of the user, and the tools called since."""

    def __init__(self) -> None:
        self.prompt = ""
        self.called: list[str] = []
        self.results: list[str] = []
        self._characters = 0

    def add(self, role: Any, content: Any) -> None:
        """Add one message: ``content`` is a text or a list of parts that have one."""
        text = text_of(content)
        self._characters += len(text)
        if role in ("tool", "function"):
            self.results.append(text)
        elif role == "user":
            self.prompt = text
            self.called.clear()
            self.results.clear()

    def added_to(self, request: ModelRequest) -> ModelRequest:
        """Return the request with what the conversation says of it."""
        return replace(
            request,
            prompt=self.prompt,
            called=tuple(self.called),
            results=tuple(self.results),
            input_tokens=1 + self._characters // 4,
        )


def text_of(content: Any) -> str:
    """Join the texts of a message's content."""
    if isinstance(content, str):
        return as_text(content)
    return "\n".join(as_text(as_object(part).get("text")) for part in as_list(content)).strip("\n")


def objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return a field that must be a non-empty array of objects.

    :raises BadRequest: it is not.
    """
    values = as_list(body.get(name))
    if not values or not all(isinstance(value, dict) for value in values):
        raise BadRequest(f"'{name}' must be a non-empty array of objects.", param=name)
    return [as_object(value) for value in values]


def offered_tools(body: dict[str, Any]) -> list[Any]:
    """Return the field ``tools``.

    :raises BadRequest: there are too many.
    """
    tools = as_list(body.get("tools"))
    if len(tools) > _MAX_TOOLS:
        raise BadRequest(f"'tools' may hold at most {_MAX_TOOLS} tools.", param="tools")
    return tools


def read_tools(described: Iterable[dict[str, Any]]) -> tuple[Tool, ...]:
    """Keep the tools that are functions; a provider's own tools are of other types."""
    return tuple(
        Tool(name, as_object(next((tool[field] for field in _SCHEMAS if tool.get(field)), None)))
        for tool in described
        if (name := as_text(tool.get("name")))
        and tool.get("type", "function") in ("function", "custom")
    )


def restrict_tools(choice: Any, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], bool]:
    """Apply ``tool_choice``: return the tools that remain, and whether one must be called.

    :raises BadRequest: it names a tool that is not offered.
    """
    if choice == "none":
        return (), False
    if choice in ("required", "any"):
        return tools, True
    named_choice = as_object(choice)
    name = as_text(named_choice.get("name")) or as_text(
        as_object(named_choice.get("function")).get("name")
    )
    if not name:
        return tools, False
    matching = tuple(tool for tool in tools if tool.name == name)
    if not matching:
        raise BadRequest(f"Tool '{name}' of 'tool_choice' is not in 'tools'.", param="tool_choice")
    return matching, True


def reasons(model: str) -> bool:
    """Whether the model's name says that it reasons."""
    return any(word in model.lower() for word in _REASONERS)


def output_schema(form: dict[str, Any], holder: dict[str, Any]) -> dict[str, Any] | None:
    """Return the JSON Schema that a reply must fit, if it must be JSON."""
    if form.get("type") == "json_schema":
        return as_object(holder.get("schema"))
    return ANY_OBJECT if form.get("type") == "json_object" else None


def read_chat_messages(body: dict[str, Any]) -> Conversation:
    """Read ``messages`` with ``tool_calls``, as Chat Completions has them and Ollama, too.

    :raises BadRequest: it is no list of objects, or is empty.
    """
    conversation = Conversation()
    for message in objects(body, "messages"):
        conversation.add(message.get("role"), message.get("content"))
        for call in as_list(message.get("tool_calls")):
            function = as_object(as_object(call).get("function"))
            conversation.called.append(as_text(function.get("name")))
    return conversation


def read_count(body: dict[str, Any], name: str, *, default: int, most: int) -> int:
    """Return an integer from 1 to ``most``.

    :raises BadRequest: it is something else.
    """
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadRequest(f"'{name}' must be an integer from 1 to {most}.", param=name)
    return value


def read_limit(body: dict[str, Any], *names: str) -> int | None:
    """Return a limit of tokens, from the first of these fields that the request has."""
    name = next((name for name in names if body.get(name) is not None), None)
    return None if name is None else read_count(body, name, default=1, most=10_000_000)


def read_stops(value: Any) -> tuple[str, ...]:
    """Return the stop sequences: one, or a list."""
    if isinstance(value, str):
        return (as_text(value),)
    return tuple(as_text(sequence) for sequence in as_list(value)[:16])
