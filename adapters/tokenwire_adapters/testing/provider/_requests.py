"""Reads a `ModelRequest` from the body of a request of each API.

References: the OpenAI API reference, "Create chat completion" and "Create a model response", and
Anthropic's API reference, "Create a Message". Fields that change nothing here (temperature, seed,
metadata …) are accepted and ignored.
"""

from __future__ import annotations

from typing import Any

from tokenwire_adapters.testing._json import as_list, as_object
from tokenwire_adapters.testing.provider._json import BadRequest, as_text
from tokenwire_adapters.testing.provider._replies import Api, ModelRequest
from tokenwire_adapters.testing.provider._tools import Tool

__all__ = ["read_request"]

_MAX_CHOICES = 16
_MAX_TOOLS = 128
_REASONERS = ("reason", "think")
_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {"answer": {"type": "string"}}}


def read_request(api: Api, value: Any) -> ModelRequest:
    """Read a request body that was parsed from JSON.

    :raises BadRequest: a field is missing or has the wrong type.
    """
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    body = as_object(value)
    if not as_text(body.get("model")):
        raise BadRequest("Missing required parameter: 'model'.", param="model")
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise BadRequest("'stream' must be a boolean.", param="stream")
    return {"chat": _chat, "responses": _responses, "messages": _messages}[api](body, stream)


def _chat(body: dict[str, Any], stream: bool) -> ModelRequest:
    conversation = _Conversation()
    for message in _objects(body, "messages"):
        conversation.add(message.get("role"), message.get("content"))
        for call in as_list(message.get("tool_calls")):
            function = as_object(as_object(call).get("function"))
            conversation.called.append(as_text(function.get("name")))
    tools = _tools(as_object(as_object(tool).get("function")) for tool in _offered_tools(body))
    tools, required = _choice(body.get("tool_choice"), tools)
    form = as_object(body.get("response_format"))
    return ModelRequest(
        "chat",
        as_text(body["model"]),
        conversation.prompt,
        stream,
        n=_count(body, "n", default=1, most=_MAX_CHOICES),
        tools=tools,
        required=required,
        parallel=body.get("parallel_tool_calls") is not False,
        called=tuple(conversation.called),
        results=tuple(conversation.results),
        reasoning=_reasons(body),
        max_tokens=_limit(body, "max_completion_tokens", "max_tokens"),
        stop=_stops(body.get("stop")),
        output_schema=_schema(form, as_object(form.get("json_schema"))),
        include_usage=as_object(body.get("stream_options")).get("include_usage") is True,
        input_tokens=conversation.tokens,
    )


def _responses(body: dict[str, Any], stream: bool) -> ModelRequest:
    conversation = _Conversation()
    items = body.get("input")
    if isinstance(items, str):
        conversation.add("user", items)
    elif not as_list(items) and not body.get("previous_response_id"):
        raise BadRequest("Missing required parameter: 'input'.", param="input")
    for entry in as_list(items):
        item = as_object(entry)
        if item.get("type") == "function_call":
            conversation.called.append(as_text(item.get("name")))
        elif item.get("type") == "function_call_output":
            conversation.add("tool", item.get("output"))
        else:
            conversation.add(item.get("role"), item.get("content"))
    tools = _tools(map(as_object, _offered_tools(body)))
    tools, required = _choice(body.get("tool_choice"), tools)
    form = as_object(as_object(body.get("text")).get("format"))
    repeated = (
        "instructions", "max_output_tokens", "metadata", "parallel_tool_calls",
        "previous_response_id", "temperature", "tool_choice", "tools", "top_p", "reasoning", "text",
    )  # fmt: skip
    return ModelRequest(
        "responses",
        as_text(body["model"]),
        conversation.prompt,
        stream,
        tools=tools,
        required=required,
        parallel=body.get("parallel_tool_calls") is not False,
        called=tuple(conversation.called),
        results=tuple(conversation.results),
        reasoning=_reasons(body) or bool(as_object(body.get("reasoning")).get("summary")),
        max_tokens=_limit(body, "max_output_tokens"),
        output_schema=_schema(form, form),
        input_tokens=conversation.tokens,
        echo={name: body[name] for name in repeated if body.get(name) is not None},
    )


def _messages(body: dict[str, Any], stream: bool) -> ModelRequest:
    conversation = _Conversation()
    for message in _objects(body, "messages"):
        blocks = [as_object(block) for block in as_list(message.get("content"))]
        for block in blocks:
            if block.get("type") == "tool_use":
                conversation.called.append(as_text(block.get("name")))
            elif block.get("type") == "tool_result":
                conversation.add("tool", block.get("content"))
        if not any(block.get("type") == "tool_result" for block in blocks):
            conversation.add(message.get("role"), message.get("content"))
    described = (as_object(tool) for tool in _offered_tools(body))
    tools = _tools(tool for tool in described if "input_schema" in tool)
    choice = as_object(body.get("tool_choice"))
    tools, required = _choice((choice.get("name") and choice) or choice.get("type"), tools)
    max_tokens = _limit(body, "max_tokens")
    if max_tokens is None:
        raise BadRequest("max_tokens: Field required", param="max_tokens")
    form = as_object(as_object(body.get("output_config")).get("format"))
    form = form or as_object(body.get("output_format"))
    return ModelRequest(
        "messages",
        as_text(body["model"]),
        conversation.prompt,
        stream,
        tools=tools,
        required=required,
        parallel=choice.get("disable_parallel_tool_use") is not True,
        called=tuple(conversation.called),
        results=tuple(conversation.results),
        reasoning=_reasons(body)
        or as_object(body.get("thinking")).get("type") in ("enabled", "adaptive"),
        preface=True,
        max_tokens=max_tokens,
        stop=_stops(body.get("stop_sequences")),
        output_schema=_schema(form, form),
        input_tokens=conversation.tokens,
    )


class _Conversation:
    """The conversation so far: the last message of the user, and the tools called since."""

    def __init__(self) -> None:
        self.prompt = ""
        self.called: list[str] = []
        self.results: list[str] = []
        self._characters = 0

    def add(self, role: Any, content: Any) -> None:
        text = _text_of(content)
        self._characters += len(text)
        if role in ("tool", "function"):
            self.results.append(text)
        elif role == "user":
            self.prompt = text
            self.called.clear()
            self.results.clear()

    @property
    def tokens(self) -> int:
        return 1 + self._characters // 4


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return as_text(content)
    return "\n".join(as_text(as_object(part).get("text")) for part in as_list(content)).strip("\n")


def _objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    values = as_list(body.get(name))
    if not values or not all(isinstance(value, dict) for value in values):
        raise BadRequest(f"'{name}' must be a non-empty array of objects.", param=name)
    return [as_object(value) for value in values]


def _offered_tools(body: dict[str, Any]) -> list[Any]:
    tools = as_list(body.get("tools"))
    if len(tools) > _MAX_TOOLS:
        raise BadRequest(f"'tools' may hold at most {_MAX_TOOLS} tools.", param="tools")
    return tools


def _tools(described: Any) -> tuple[Tool, ...]:
    """Keep the tools that are functions; a provider's own tools are of other types."""
    return tuple(
        Tool(name, as_object(tool.get("parameters") or tool.get("input_schema")))
        for tool in described
        if (name := as_text(tool.get("name")))
        and tool.get("type", "function") in ("function", "custom")
    )


def _choice(choice: Any, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], bool]:
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


def _reasons(body: dict[str, Any]) -> bool:
    model = as_text(body["model"]).lower()
    return any(word in model for word in _REASONERS)


def _schema(form: dict[str, Any], holder: dict[str, Any]) -> dict[str, Any] | None:
    if form.get("type") == "json_schema":
        return as_object(holder.get("schema"))
    return _ANY_OBJECT if form.get("type") == "json_object" else None


def _count(body: dict[str, Any], name: str, *, default: int, most: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadRequest(f"'{name}' must be an integer from 1 to {most}.", param=name)
    return value


def _limit(body: dict[str, Any], *names: str) -> int | None:
    name = next((name for name in names if body.get(name) is not None), None)
    return None if name is None else _count(body, name, default=1, most=10_000_000)


def _stops(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (as_text(value),)
    return tuple(as_text(sequence) for sequence in as_list(value)[:16])
