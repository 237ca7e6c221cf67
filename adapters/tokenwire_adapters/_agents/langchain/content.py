"""From LangChain's messages, chunks and stream events to the parts of a response.

A message's content is text or a list of blocks. Blocks come in the provider's shape or in
LangChain's own (``output_version="v1"``); see `langchain_core.messages.content`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from tokenwire.events import plain
from tokenwire_adapters._agents.calls import ModelCall, Parts
from tokenwire_adapters._agents.hosted_tools import (
    HOSTED_TOOLS,
    HostedCall,
    image_data,
    is_provider_executed,
)
from tokenwire_adapters._agents.values import dict_of, dicts_of, name_of, str_of

__all__ = [
    "HIDDEN",
    "Metadata",
    "finish_reason",
    "metadata",
    "tool_calls",
    "usage",
    "write_choices",
    "write_chunk",
    "write_event",
]

Metadata: TypeAlias = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]

HIDDEN = frozenset({"nostream", "langsmith:nostream"})
"""Tags of calls that are not for users to see (LangGraph's `TAG_NOSTREAM`)."""

_PUBLISHED = ("langgraph_node", "langgraph_step", "langgraph_checkpoint_ns", "lc_agent_name")
"""Metadata that watchers see as it is; of the rest they see nothing."""

_ARGUMENT_BLOCKS = frozenset(
    {"tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "function_call"}
)
"""Blocks that repeat `tool_calls` and `tool_call_chunks`."""

_SERVER_CALLS = frozenset(
    {"server_tool_use", "mcp_tool_use", "server_tool_call", "server_tool_call_chunk"}
)
"""Tool calls that the provider runs itself."""

_ARGUMENTS = ("action", "actions", "operation", "arguments")
_OPAQUE = frozenset({"index", "encrypted_content", "result"})
"""Fields of a provider's own tool call that are opaque to watchers, or large."""

_FILES = frozenset({"image", "audio", "video", "file"})


def write_chunk(parts: Parts, message: Any) -> bool:
    """Write what one chunk adds; say whether it was anything."""
    content: Any = message.content
    wrote = False
    extra: dict[str, Any] = message.additional_kwargs
    if extra:
        wrote = _write_extra(parts, extra)
    if content:
        wrote = True
        if isinstance(content, str):
            parts.text("text", content)
        else:
            _write_blocks(parts, content)
    chunks: Any = getattr(message, "tool_call_chunks", None)
    if chunks:
        wrote = True
        for chunk in dicts_of(chunks):
            arguments = chunk.get("args")
            parts.tool(
                _index(chunk),
                chunk.get("id"),
                chunk.get("name"),
                arguments if isinstance(arguments, str) else _dumps(arguments),
            )
    return wrote


def _index(block: Mapping[str, Any]) -> int | str | None:
    """Which block of its message a block, or a piece of one, is; None where it does not say."""
    index = block.get("index")
    return index if isinstance(index, int | str) else None


def metadata(call: dict[str, Any], own: Metadata | None) -> dict[str, Any]:
    """What watchers see: a part of the call's metadata, and what the handler was given."""
    published: dict[str, Any] = {"framework": "langchain"}
    for name, key in (("provider", "ls_provider"), ("model", "ls_model_name")):
        if call.get(key):
            published[name] = call[key]
    published.update((key, call[key]) for key in _PUBLISHED if key in call)
    further = own(call) if callable(own) else own
    return {**published, **further} if further else published


def write_choices(model: ModelCall, generations: list[Any]) -> None:
    """Write replies that came whole. With ``n > 1`` each is a response of its own."""
    parts = model.open()
    if parts is None:
        return
    for index, generation in enumerate(generations):
        choice = parts if index == 0 else model.further_choice(index)
        _write_generation(choice, generation)
        if index > 0:
            choice.writer.finish(finish_reason(generation))


def _write_generation(parts: Parts, generation: Any) -> None:
    message: Any = getattr(generation, "message", None)
    if message is not None:
        _write_message(parts, message)
    elif getattr(generation, "text", None):
        parts.text("text", generation.text)


def _write_message(parts: Parts, message: Any) -> None:
    extra: dict[str, Any] = message.additional_kwargs
    if extra:
        _write_extra(parts, extra)
    content: Any = message.content
    if isinstance(content, str):
        if content:
            parts.text("text", content)
    else:
        _write_blocks(parts, content)
    for call_id, name, arguments in _tool_calls(message):
        parts.tool(("whole", call_id, name, arguments), call_id, name, arguments)


def tool_calls(generation: Any) -> list[tuple[str | None, str | None, str]]:
    """The id, name and arguments of each tool call of a whole reply."""
    message: Any = getattr(generation, "message", None)
    return [] if message is None else _tool_calls(message)


def _tool_calls(message: Any) -> list[tuple[str | None, str | None, str]]:
    raw: dict[str, str] = {}
    for call in dicts_of(getattr(message, "additional_kwargs", {}).get("tool_calls")):
        function = dict_of(call.get("function"))
        if isinstance(function.get("arguments"), str):  # as the model wrote them
            raw[str_of(call.get("id"))] = function["arguments"]
    calls: list[tuple[str | None, str | None, str]] = []
    for call in (
        *dicts_of(getattr(message, "tool_calls", None)),
        *dicts_of(getattr(message, "invalid_tool_calls", None)),
    ):
        arguments: Any = raw.get(str_of(call.get("id")), call.get("args"))
        text = arguments if isinstance(arguments, str) else _dumps(arguments)
        calls.append((str_of(call.get("id")) or None, str_of(call.get("name")) or None, text or ""))
    return calls


def _write_extra(parts: Parts, extra: dict[str, Any]) -> bool:
    """Write what providers put beside the content; say whether it was anything."""
    wrote = False
    for key, kind in (("reasoning_content", "reasoning"), ("refusal", "refusal")):
        text = extra.get(key)
        if isinstance(text, str) and text:
            parts.text(kind, text)
            wrote = True
    reasoning: Any = extra.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        parts.text("reasoning", reasoning)
        wrote = True
    elif isinstance(reasoning, dict):  # OpenAI's Responses API with output_version="v0"
        wrote = _write_reasoning(parts, cast("dict[str, Any]", reasoning), "v0") or wrote
    return wrote


def _write_blocks(parts: Parts, content: Any) -> None:
    for block in content:
        if isinstance(block, str):
            parts.text("text", block)
        elif isinstance(block, dict):
            _write_block(parts, cast("dict[str, Any]", block))


def _write_block(parts: Parts, block: dict[str, Any]) -> None:
    kind: Any = block.get("type")
    index = _index(block)
    if not isinstance(kind, str) or kind in _ARGUMENT_BLOCKS:
        return
    if kind == "text":
        _write_text(parts, block, index)
    elif kind in ("thinking", "reasoning", "reasoning_content"):
        _write_reasoning(parts, block, index)
    elif kind == "refusal":
        parts.text("refusal", str_of(block.get("refusal")), index)
    elif kind == "input_json_delta":
        if parts.has_tool(("server", index)):
            parts.tool(("server", index), arguments=block.get("partial_json"))
    elif kind in _SERVER_CALLS:
        _write_server_call(parts, block, index)
    elif kind.endswith("tool_result"):
        call_id: Any = block.get("tool_use_id") or block.get("tool_call_id")
        if isinstance(call_id, str):
            output = plain(block.get("content", block.get("output")))
            parts.writer.tool_result(name_of(call_id), output)
    elif kind.endswith("_call"):
        _write_finished_call(parts, kind, block)
    elif kind in _FILES:
        parts.add("file", block)


def _write_text(parts: Parts, block: dict[str, Any], index: object) -> None:
    text: Any = block.get("text")
    if isinstance(text, str) and text:
        parts.text("text", text, index)
    for key in ("citations", "annotations"):
        for source in dicts_of(block.get(key)):
            parts.add("source", source)


def _write_server_call(parts: Parts, block: dict[str, Any], index: object) -> None:
    arguments: Any = block.get("args") or block.get("input")
    text = arguments if isinstance(arguments, str) else _dumps(arguments or None)
    key = ("server", index if index is not None else str_of(block.get("id")))
    parts.tool(key, block.get("id"), block.get("name"), text, provider_executed=True)


def _write_reasoning(parts: Parts, block: dict[str, Any], index: object) -> bool:
    """Write a block of thoughts, in the shape of whichever provider."""
    wrote = False
    for key in ("thinking", "reasoning", "text"):
        text: Any = block.get(key)
        if isinstance(text, str) and text:
            parts.text("reasoning", text, index)
            wrote = True
    nested: Any = block.get("reasoning_content")
    if isinstance(nested, dict):
        wrote = _write_reasoning(parts, cast("dict[str, Any]", nested), index) or wrote
    for key in ("content", "summary"):
        for number, piece in enumerate(dicts_of(block.get(key))):
            if isinstance(piece.get("text"), str) and piece["text"]:
                position = _index(piece) if "index" in piece else number
                parts.text("reasoning", piece["text"], (index, key, position))
                wrote = True
    return wrote


def _write_finished_call(parts: Parts, kind: str, block: dict[str, Any]) -> None:
    """Write a call of a tool that OpenAI runs: it comes when it is done."""
    item_id: Any = block.get("id")
    call_id: Any = block.get("call_id")
    shown = {key: value for key, value in block.items() if key not in _OPAQUE}
    if kind == "custom_tool_call":
        return  # `tool_call_chunks` has it
    if kind in ("mcp_call", "code_interpreter_call") and isinstance(item_id, str):
        name: Any = block.get("name") or kind.removesuffix("_call")
        arguments: Any = block.get("arguments") or block.get("code")
        parts.tool(("server", item_id), item_id, name, arguments, provider_executed=True)
        output: Any = block.get("output") or block.get("outputs")
        error: Any = block.get("error")
        if output is not None or error is not None or kind == "code_interpreter_call":
            failed = None if error is None else _dumps(error)
            parts.writer.tool_result(
                name_of(item_id), plain(output), name=name_of(name), error=failed
            )
    elif isinstance(call_id, str) and call_id:
        asks: Any = next((shown[key] for key in _ARGUMENTS if shown.get(key)), None)
        text = asks if isinstance(asks, str) else _dumps(asks)
        is_hosted = is_provider_executed(kind, block)
        name = kind.removesuffix("_call")
        parts.tool(("server", call_id), call_id, name, text, provider_executed=is_hosted)
    elif kind in HOSTED_TOOLS:
        call = HostedCall(parts.writer, kind, name_of(item_id), None)
        call.complete(block)
        if kind == "image_generation_call":
            parts.add("file", image_data(block), name=kind)
    else:
        parts.add("data", shown, name=kind)


def write_event(parts: Parts, event: dict[str, Any]) -> bool:
    """Write one event of LangChain's stream protocol (v3); say whether it was anything."""
    index = _index(event)
    kind: Any = event.get("event")
    if kind == "content-block-delta":
        delta = dict_of(event.get("delta"))
        if delta.get("type") == "text-delta" and str_of(delta.get("text")):
            parts.text("text", delta["text"], index)
        elif delta.get("type") == "reasoning-delta" and str_of(delta.get("reasoning")):
            parts.text("reasoning", delta["reasoning"], index)
        elif delta.get("type") == "tool-call-delta" and delta.get("args"):
            parts.tool(("block", index), arguments=delta["args"])
        else:
            return False
        return True
    block = dict_of(event.get("content"))
    type_ = str_of(block.get("type"))
    if kind == "content-block-start" and type_ in ("tool_call_chunk", "server_tool_call_chunk"):
        hosted = type_ in _SERVER_CALLS
        name = block.get("name")
        parts.tool(("block", index), block.get("id"), name, provider_executed=hosted)
        return True
    if kind == "content-block-finish":
        return _write_finished_block(parts, block, type_, index)
    return False


def _write_finished_block(parts: Parts, block: dict[str, Any], type_: Any, index: object) -> bool:
    """Write what no delta has brought."""
    if type_ in ("tool_call", "invalid_tool_call", "server_tool_call"):
        if not parts.has_tool(("block", index)):
            arguments: Any = block.get("args")
            text = arguments if isinstance(arguments, str) else _dumps(arguments)
            name, hosted = block.get("name"), type_ in _SERVER_CALLS
            parts.tool(("block", index), block.get("id"), name, text, provider_executed=hosted)
        return True
    if type_ == "text":
        for source in dicts_of(block.get("annotations")):
            parts.add("source", source)
    elif type_ == "server_tool_result" or type_ in _FILES:
        _write_block(parts, block)
    return False


def finish_reason(generation: Any) -> str | None:
    """Why the model stopped, as the provider says it."""
    message: Any = getattr(generation, "message", None)
    for metadata in (
        getattr(message, "response_metadata", None),
        getattr(generation, "generation_info", None),
    ):
        if isinstance(metadata, dict):
            for key in ("finish_reason", "stop_reason", "status", "done_reason"):
                reason: Any = cast("dict[str, Any]", metadata).get(key)
                if name_of(reason):
                    return _without_repeats(name_of(reason))
    return None


def _without_repeats(reason: str) -> str:
    """`reason` once: LangChain joins the finish reasons of a server that sends it twice."""
    half, rest = divmod(len(reason), 2)
    if rest or reason[:half] != reason[half:]:
        return reason
    return _without_repeats(reason[:half])


def usage(generation: Any, llm_output: Any) -> dict[str, Any] | None:
    """How many tokens it took, as LangChain (or else the provider) counts them."""
    message: Any = getattr(generation, "message", None)
    counts: Any = getattr(message, "usage_metadata", None)
    if not counts and isinstance(llm_output, dict):
        output = cast("dict[str, Any]", llm_output)
        counts = output.get("token_usage") or output.get("usage")
    return dict(counts) if isinstance(counts, dict) and counts else None  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _dumps(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=str)
