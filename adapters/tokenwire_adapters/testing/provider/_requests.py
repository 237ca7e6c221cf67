"""Reads a `ModelRequest` from the body of a request of OpenAI's and Anthropic's APIs.

References: the OpenAI API reference, "Create chat completion" and "Create a model response", and
Anthropic's API reference, "Create a Message". Fields that change nothing here (temperature, seed,
metadata …) are accepted and ignored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tokenwire_adapters.testing._json import as_list, as_object
from tokenwire_adapters.testing.provider._conversation import (
    Conversation,
    objects,
    offered_tools,
    output_schema,
    read_chat_messages,
    read_count,
    read_limit,
    read_stops,
    read_tools,
    restrict_tools,
)
from tokenwire_adapters.testing.provider._json import BadRequest, as_text
from tokenwire_adapters.testing.provider._replies import ModelRequest

__all__ = ["read_chat", "read_messages", "read_responses"]

_MAX_CHOICES = 16


def read_chat(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request of Chat Completions."""
    conversation = read_chat_messages(body)
    tools = read_tools(as_object(as_object(tool).get("function")) for tool in offered_tools(body))
    tools, required = restrict_tools(body.get("tool_choice"), tools)
    form = as_object(body.get("response_format"))
    return replace(
        conversation.added_to(request),
        n=read_count(body, "n", default=1, most=_MAX_CHOICES),
        tools=tools,
        required=required,
        parallel=body.get("parallel_tool_calls") is not False,
        max_tokens=read_limit(body, "max_completion_tokens", "max_tokens"),
        stop=read_stops(body.get("stop")),
        output_schema=output_schema(form, as_object(form.get("json_schema"))),
        include_usage=as_object(body.get("stream_options")).get("include_usage") is True,
    )


def read_responses(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request of the Responses API."""
    conversation = Conversation()
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
    tools = read_tools(map(as_object, offered_tools(body)))
    tools, required = restrict_tools(body.get("tool_choice"), tools)
    form = as_object(as_object(body.get("text")).get("format"))
    repeated = (
        "background", "instructions", "max_output_tokens", "metadata", "parallel_tool_calls",
        "previous_response_id", "temperature", "tool_choice", "tools", "top_p", "reasoning", "text",
    )  # fmt: skip
    return replace(
        conversation.added_to(request),
        tools=tools,
        required=required,
        parallel=body.get("parallel_tool_calls") is not False,
        reasoning=request.reasoning or bool(as_object(body.get("reasoning")).get("summary")),
        max_tokens=read_limit(body, "max_output_tokens"),
        output_schema=output_schema(form, form),
        echo={name: body[name] for name in repeated if body.get(name) is not None},
    )


def read_messages(body: dict[str, Any], request: ModelRequest) -> ModelRequest:
    """Read a request of Messages."""
    conversation = Conversation()
    for message in objects(body, "messages"):
        blocks = [as_object(block) for block in as_list(message.get("content"))]
        for block in blocks:
            if block.get("type") == "tool_use":
                conversation.called.append(as_text(block.get("name")))
            elif block.get("type") == "tool_result":
                conversation.add("tool", block.get("content"))
        if not any(block.get("type") == "tool_result" for block in blocks):
            conversation.add(message.get("role"), message.get("content"))
    described = (as_object(tool) for tool in offered_tools(body))
    tools = read_tools(tool for tool in described if "input_schema" in tool)
    choice = as_object(body.get("tool_choice"))
    tools, required = restrict_tools((choice.get("name") and choice) or choice.get("type"), tools)
    max_tokens = read_limit(body, "max_tokens")
    if max_tokens is None:
        raise BadRequest("max_tokens: Field required", param="max_tokens")
    form = as_object(as_object(body.get("output_config")).get("format"))
    form = form or as_object(body.get("output_format"))
    return replace(
        conversation.added_to(request),
        tools=tools,
        required=required,
        parallel=choice.get("disable_parallel_tool_use") is not True,
        reasoning=request.reasoning
        or as_object(body.get("thinking")).get("type") in ("enabled", "adaptive"),
        preface=True,
        max_tokens=max_tokens,
        stop=read_stops(body.get("stop_sequences")),
        output_schema=output_schema(form, form),
    )
