"""The Responses API on the wire (OpenAI API reference: the response object, streaming events)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from tokenwire_adapters.testing.provider._frames import Frame, named_event
from tokenwire_adapters.testing.provider._replies import Kind, ModelRequest, Reply, Token

__all__ = ["body", "frames", "unfinished_body"]


def frames(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> Iterator[Frame]:
    """Write the stream: every output item is added, filled and done; then the response ends."""
    (reply,) = replies
    created = int(time.time())
    sequence_number = 0

    def send(kind: str, choice: int | None = None, /, **fields: Any) -> Frame:
        nonlocal sequence_number
        frame = named_event({"type": kind, "sequence_number": sequence_number} | fields, choice)
        sequence_number += 1
        return frame

    opening = _response(request, response_id, created, status="in_progress", output=[])
    yield send("response.created", response=opening)
    yield send("response.in_progress", response=opening)
    groups = reply.groups()
    output: list[dict[str, Any]] = []
    for index, group in enumerate(groups):
        item = _Item(response_id, index, group, reply)
        last = index == len(groups) - 1
        status = "incomplete" if last and reply.finish == "length" else "completed"
        yield send("response.output_item.added", output_index=index, item=item.empty())
        where: dict[str, Any] = {"item_id": item.id, "output_index": index} | item.place
        if item.part_event:
            yield send(f"response.{item.part_event}.added", **where, part=item.part(""))
        for token in group:
            yield send(f"response.{item.event}.delta", 0, **where, delta=token.text, **item.extra)
        value = {item.field: item.text}
        yield send(f"response.{item.event}.done", **where, **value, **item.extra, **item.named)
        if item.part_event:
            yield send(f"response.{item.part_event}.done", **where, part=item.part(item.text))
        output.append(item.whole(status))
        yield send("response.output_item.done", output_index=index, item=output[-1])
    end = "incomplete" if reply.finish == "length" else "completed"
    closing = _response(request, response_id, created, status=end, output=output, reply=reply)
    yield send(f"response.{end}", response=closing)


def body(request: ModelRequest, replies: tuple[Reply, ...], response_id: str) -> dict[str, Any]:
    """Write the whole response, for a request that does not stream."""
    (reply,) = replies
    groups = reply.groups()
    status = "incomplete" if reply.finish == "length" else "completed"
    output = [
        _Item(response_id, index, group, reply).whole(
            status if index == len(groups) - 1 else "completed"
        )
        for index, group in enumerate(groups)
    ]
    created = int(time.time())
    return _response(request, response_id, created, status=status, output=output, reply=reply)


def unfinished_body(
    request: ModelRequest, reply: Reply, response_id: str, status: str, tokens: int
) -> dict[str, Any]:
    """Write a response that is not complete.

    :param status: ``queued``, ``in_progress`` or ``cancelled``.
    :param tokens: how many of its tokens are there.
    """
    groups = replace(reply, tokens=reply.tokens[:tokens]).groups()
    output = [
        _Item(response_id, index, group, reply).whole(
            "in_progress" if index == len(groups) - 1 else "completed"
        )
        for index, group in enumerate(groups)
    ]
    return _response(request, response_id, int(time.time()), status=status, output=output)


class _Item:
    """One output item: a message, a reasoning item with one summary, or a function call."""

    _EVENTS: ClassVar[dict[Kind, tuple[str, str, str, str]]] = {
        # kind: prefix of ids, event of its text, event of its part, field of its done event
        "text": ("msg", "output_text", "content_part", "text"),
        "reasoning": ("rs", "reasoning_summary_text", "reasoning_summary_part", "text"),
        "tool": ("fc", "function_call_arguments", "", "arguments"),
    }

    def __init__(self, response_id: str, index: int, group: list[Token], reply: Reply) -> None:
        self._kind = group[0].kind
        self._call = reply.calls[group[0].call] if self._kind == "tool" else None
        prefix, self.event, self.part_event, self.field = self._EVENTS[self._kind]
        self.id = f"{prefix}_{response_id.removeprefix('resp_')}{index:02d}"
        self.text = "".join(token.text for token in group)
        places = {"text": {"content_index": 0}, "reasoning": {"summary_index": 0}, "tool": {}}
        self.place: dict[str, int] = places[self._kind]
        self.extra: dict[str, Any] = {"logprobs": []} if self._kind == "text" else {}
        self.named: dict[str, Any] = {"name": self._call.name} if self._call else {}

    def part(self, text: str) -> dict[str, Any]:
        if self._kind == "reasoning":
            return {"type": "summary_text", "text": text}
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}

    def empty(self) -> dict[str, Any]:
        return self._shape("in_progress", None)

    def whole(self, status: str) -> dict[str, Any]:
        return self._shape(status, self.text)

    def _shape(self, status: str, text: str | None) -> dict[str, Any]:
        parts = [] if text is None else [self.part(text)]
        if self._call:
            return {
                "id": self.id,
                "type": "function_call",
                "status": status,
                "arguments": text or "",
                "call_id": f"call_{self._call.id}",
                "name": self._call.name,
            }
        if self._kind == "reasoning":
            return {"id": self.id, "type": "reasoning", "summary": parts}
        message = {"id": self.id, "type": "message", "status": status}
        return message | {"content": parts, "role": "assistant"}


def _response(
    request: ModelRequest,
    response_id: str,
    created: int,
    *,
    status: str,
    output: list[dict[str, Any]],
    reply: Reply | None = None,
) -> dict[str, Any]:
    response: dict[str, Any] = {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": None,
        "model": request.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if reply is None else _usage(request, reply),
        "user": None,
        "metadata": {},
    }
    return response | request.echo


def _usage(request: ModelRequest, reply: Reply) -> dict[str, Any]:
    return {
        "input_tokens": request.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": len(reply.tokens),
        "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        "total_tokens": request.input_tokens + len(reply.tokens),
    }
