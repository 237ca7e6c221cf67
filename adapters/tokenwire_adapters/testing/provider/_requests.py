"""Reads an `Ask` out of a request of each API.

References: the OpenAI API reference, "Create chat completion" and "Create a model response", and
Anthropic's API reference, "Create a Message". Fields that change nothing here (temperature, seed,
metadata …) are accepted and left alone.
"""

from __future__ import annotations

from typing import Any

from tokenwire_adapters.testing.provider._json import BadRequest, as_list, as_object, as_text
from tokenwire_adapters.testing.provider._replies import Api, Ask
from tokenwire_adapters.testing.provider._tools import Tool

__all__ = ["read_ask"]

_MAX_CHOICES = 16
_MAX_TOOLS = 128
_REASONERS = ("reason", "think")
_ANY_OBJECT: dict[str, Any] = {"type": "object", "properties": {"answer": {"type": "string"}}}


def read_ask(api: Api, body: Any) -> Ask:
    """Read a request body that was parsed from JSON.

    :raises BadRequest: a field is missing or has the wrong type.
    """
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    request = as_object(body)
    if not as_text(request.get("model")):
        raise BadRequest("Missing required parameter: 'model'.", param="model")
    stream = request.get("stream") or False
    if not isinstance(stream, bool):
        raise BadRequest("'stream' must be a boolean.", param="stream")
    return {"chat": _chat, "responses": _responses, "messages": _messages}[api](request, stream)


def _chat(request: dict[str, Any], stream: bool) -> Ask:
    talk = _Talk()
    for message in _filled(request, "messages"):
        talk.say(message.get("role"), message.get("content"))
        for call in as_list(message.get("tool_calls")):
            talk.called.append(as_text(as_object(as_object(call).get("function")).get("name")))
    tools = _tools(as_object(as_object(tool).get("function")) for tool in _offered(request))
    tools, required = _choice(request.get("tool_choice"), tools)
    form = as_object(request.get("response_format"))
    return Ask(
        "chat",
        as_text(request["model"]),
        talk.prompt,
        stream,
        n=_count(request, "n", default=1, most=_MAX_CHOICES),
        tools=tools,
        required=required,
        parallel=request.get("parallel_tool_calls") is not False,
        called=tuple(talk.called),
        results=tuple(talk.results),
        reasoning=_reasons(request),
        max_tokens=_limit(request, "max_completion_tokens", "max_tokens"),
        stop=_stops(request.get("stop")),
        output_schema=_schema(form, as_object(form.get("json_schema"))),
        include_usage=as_object(request.get("stream_options")).get("include_usage") is True,
        input_tokens=talk.tokens,
    )


def _responses(request: dict[str, Any], stream: bool) -> Ask:
    talk = _Talk()
    source = request.get("input")
    if isinstance(source, str):
        talk.say("user", source)
    elif not as_list(source) and not request.get("previous_response_id"):
        raise BadRequest("Missing required parameter: 'input'.", param="input")
    for entry in as_list(source):
        item = as_object(entry)
        if item.get("type") == "function_call":
            talk.called.append(as_text(item.get("name")))
        elif item.get("type") == "function_call_output":
            talk.say("tool", item.get("output"))
        else:
            talk.say(item.get("role"), item.get("content"))
    tools = _tools(map(as_object, _offered(request)))
    tools, required = _choice(request.get("tool_choice"), tools)
    form = as_object(as_object(request.get("text")).get("format"))
    repeated = (
        "instructions", "max_output_tokens", "metadata", "parallel_tool_calls",
        "previous_response_id", "temperature", "tool_choice", "tools", "top_p", "reasoning", "text",
    )  # fmt: skip
    return Ask(
        "responses",
        as_text(request["model"]),
        talk.prompt,
        stream,
        tools=tools,
        required=required,
        parallel=request.get("parallel_tool_calls") is not False,
        called=tuple(talk.called),
        results=tuple(talk.results),
        reasoning=_reasons(request) or bool(as_object(request.get("reasoning")).get("summary")),
        max_tokens=_limit(request, "max_output_tokens"),
        output_schema=_schema(form, form),
        input_tokens=talk.tokens,
        echo={name: request[name] for name in repeated if request.get(name) is not None},
    )


def _messages(request: dict[str, Any], stream: bool) -> Ask:
    talk = _Talk()
    for message in _filled(request, "messages"):
        blocks = [as_object(block) for block in as_list(message.get("content"))]
        for block in blocks:
            if block.get("type") == "tool_use":
                talk.called.append(as_text(block.get("name")))
            elif block.get("type") == "tool_result":
                talk.say("tool", block.get("content"))
        if not any(block.get("type") == "tool_result" for block in blocks):
            talk.say(message.get("role"), message.get("content"))
    offered = (as_object(tool) for tool in _offered(request))
    tools = _tools(tool for tool in offered if "input_schema" in tool)
    choice = as_object(request.get("tool_choice"))
    tools, required = _choice((choice.get("name") and choice) or choice.get("type"), tools)
    max_tokens = _limit(request, "max_tokens")
    if max_tokens is None:
        raise BadRequest("max_tokens: Field required", param="max_tokens")
    form = as_object(as_object(request.get("output_config")).get("format"))
    form = form or as_object(request.get("output_format"))
    return Ask(
        "messages",
        as_text(request["model"]),
        talk.prompt,
        stream,
        tools=tools,
        required=required,
        parallel=choice.get("disable_parallel_tool_use") is not True,
        called=tuple(talk.called),
        results=tuple(talk.results),
        reasoning=_reasons(request)
        or as_object(request.get("thinking")).get("type") in ("enabled", "adaptive"),
        preface=True,
        max_tokens=max_tokens,
        stop=_stops(request.get("stop_sequences")),
        output_schema=_schema(form, form),
        input_tokens=talk.tokens,
    )


class _Talk:
    """The conversation so far: the last thing the user said, and what tools did since."""

    def __init__(self) -> None:
        self.prompt = ""
        self.called: list[str] = []
        self.results: list[str] = []
        self._characters = 0

    def say(self, role: Any, content: Any) -> None:
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


def _filled(request: dict[str, Any], name: str) -> list[dict[str, Any]]:
    values = as_list(request.get(name))
    if not values or not all(isinstance(value, dict) for value in values):
        raise BadRequest(f"'{name}' must be a non-empty array of objects.", param=name)
    return [as_object(value) for value in values]


def _offered(request: dict[str, Any]) -> list[Any]:
    tools = as_list(request.get("tools"))
    if len(tools) > _MAX_TOOLS:
        raise BadRequest(f"'tools' may hold at most {_MAX_TOOLS} tools.", param="tools")
    return tools


def _tools(described: Any) -> tuple[Tool, ...]:
    """Keep the tools that are functions; a provider's own tools are of other types."""
    return tuple(
        Tool(name, as_object(each.get("parameters") or each.get("input_schema")))
        for each in described
        if (name := as_text(each.get("name")))
        and each.get("type", "function") in ("function", "custom")
    )


def _choice(choice: Any, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], bool]:
    if choice == "none":
        return (), False
    if choice in ("required", "any"):
        return tools, True
    given = as_object(choice)
    name = as_text(given.get("name")) or as_text(as_object(given.get("function")).get("name"))
    if not name:
        return tools, False
    named = tuple(tool for tool in tools if tool.name == name)
    if not named:
        raise BadRequest(f"Tool '{name}' of 'tool_choice' is not in 'tools'.", param="tool_choice")
    return named, True


def _reasons(request: dict[str, Any]) -> bool:
    model = as_text(request["model"]).lower()
    return any(word in model for word in _REASONERS)


def _schema(form: dict[str, Any], holder: dict[str, Any]) -> dict[str, Any] | None:
    if form.get("type") == "json_schema":
        return as_object(holder.get("schema"))
    return _ANY_OBJECT if form.get("type") == "json_object" else None


def _count(request: dict[str, Any], name: str, *, default: int, most: int) -> int:
    value = request.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadRequest(f"'{name}' must be an integer from 1 to {most}.", param=name)
    return value


def _limit(request: dict[str, Any], *names: str) -> int | None:
    name = next((each for each in names if request.get(each) is not None), None)
    return None if name is None else _count(request, name, default=1, most=10_000_000)


def _stops(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (as_text(value),)
    return tuple(as_text(each) for each in as_list(value)[:16])
