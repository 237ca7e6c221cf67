"""Messages as LangChain has them, put together from what a run says."""

from __future__ import annotations

from typing import Any

import msgspec

from tokenwire.approvals import ApprovalRequest
from tokenwire.events import ToolResult
from tokenwire_adapters._web.ui.json import json_text, parsed, usage_of
from tokenwire_adapters._web.ui.state import PartState, ResponseState

__all__ = ["Messages", "interrupt_of", "is_text", "usage_metadata"]

_TEXT = frozenset({"text", "refusal"})


def is_text(part: PartState) -> bool:
    """Whether the text of a part is said to the user."""
    return part.kind in _TEXT


def usage_metadata(response: ResponseState) -> dict[str, int] | None:
    """Token counts as an AI message has them."""
    counts = usage_of(response.usage)
    names = {"inputTokens": "input_tokens", "outputTokens": "output_tokens"}
    usage = {ours: counts[theirs] for theirs, ours in names.items() if theirs in counts}
    return {**usage, "total_tokens": sum(usage.values())} if usage else None


class Messages:
    """The messages of one run so far: an AI message for each response, and the tools' answers."""

    def __init__(self) -> None:
        self._messages: dict[str, dict[str, Any]] = {}
        self._blocks: dict[str, list[dict[str, Any]]] = {}  # of an AI message, in order
        self._reasoned: set[str] = set()  # responses with reasoning: their content is in blocks
        self._places: dict[tuple[str, int], dict[str, Any]] = {}  # by response and part

    def add_text(self, response: ResponseState, part: PartState, text: str) -> None:
        """Add text to a part of a response, or to the arguments of a tool call."""
        block = self.block(response, part)
        field = {"reasoning": "reasoning", "tool_call": "args"}.get(part.kind, "text")
        block[field] += text

    def block(self, response: ResponseState, part: PartState) -> dict[str, Any]:
        """The content block of a part, which may be new."""
        place = (response.id, part.index)
        block = self._places.get(place)
        if block is None:
            block = dict[str, Any]()
            if part.kind == "tool_call":
                block |= {"type": "tool_call_chunk", "name": part.name or "tool", "args": ""}
                block["id"] = part.call_id
            elif part.kind == "reasoning":
                block |= {"type": "reasoning", "reasoning": ""}
                self._reasoned.add(response.id)
            else:
                block |= {"type": "text", "text": ""}
            self._places[place] = block
            blocks = self._blocks.setdefault(response.id, [])
            block["index"] = len(blocks)
            blocks.append(block)
            self._messages.setdefault(response.id, {"type": "ai", "id": response.id})
        return block

    def add_result(
        self, response: ResponseState, part: PartState, result: ToolResult
    ) -> dict[str, Any]:
        """Add the answer of a tool; the message that it is."""
        message = {
            "type": "tool",
            "id": f"{response.id}:{part.index}:result",
            "tool_call_id": part.call_id,
            "name": part.name or "tool",
            "content": result.error if result.error is not None else json_text(result.output),
            "status": "success" if result.error is None else "error",
        }
        self._messages[str(message["id"])] = message
        return message

    def end(self, response: ResponseState) -> None:
        """Add the token counts of a response."""
        usage = usage_metadata(response)
        if usage is not None and response.id in self._messages:
            self._messages[response.id]["usage_metadata"] = usage

    def all(self) -> list[dict[str, Any]]:
        """The messages, in order."""
        return [
            {**message, **content_of(self._blocks[name])} if name in self._blocks else message
            for name, message in self._messages.items()
        ]

    def in_blocks(self, response_id: str) -> bool:
        """Whether the content of a message is a list of blocks rather than text."""
        return response_id in self._reasoned


def content_of(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """The content and the tool calls of an AI message."""
    said = [block for block in blocks if block["type"] != "tool_call_chunk"]
    calls = [block for block in blocks if block["type"] == "tool_call_chunk"]
    content: Any = "".join(block["text"] for block in said if block["type"] == "text")
    if any(block["type"] == "reasoning" for block in said):
        content = [{**block} for block in said]
    return {"content": content, "tool_calls": [tool_call(block) for block in calls]}


def tool_call(block: dict[str, Any]) -> dict[str, Any]:
    """A tool call with its arguments, as far as these are JSON."""
    args: Any = parsed(block["args"]) if block["args"] else {}
    if not isinstance(args, dict):
        args = {"text": args} if isinstance(args, str) else {"value": msgspec.to_builtins(args)}
    return {"type": "tool_call", "id": block["id"], "name": block["name"], "args": args}


def interrupt_of(request: ApprovalRequest) -> dict[str, Any]:
    """A question as LangChain's human-in-the-loop middleware asks it."""
    action = {"name": request.tool, "args": request.input}
    if request.message:
        action["description"] = request.message
    review = {"action_name": request.tool, "allowed_decisions": ["approve", "edit", "reject"]}
    return {"id": request.id, "value": {"action_requests": [action], "review_configs": [review]}}
