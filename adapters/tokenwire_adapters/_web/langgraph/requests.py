"""Reads what LangChain's clients send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from tokenwire._ids import new_id
from tokenwire.approvals import Answer, ApprovalRequest
from tokenwire_adapters._web.gateway.problems import Problem

__all__ = ["answers_to", "chat_message", "messages_in", "text_of"]

_TYPES = {"user": "human", "assistant": "ai", "human": "human", "ai": "ai"}
_TYPES |= {"system": "system", "developer": "system", "tool": "tool"}
_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_APPROVING = frozenset({"approve", "accept", "edit"})


def messages_in(value: Any) -> list[dict[str, Any]]:
    """The messages of a run's input, each with a type and an id.

    :raises Problem: where one is no message.
    """
    given: Any = value.get("messages") if isinstance(value, dict) else None
    items = cast("list[Any]", given) if isinstance(given, list) else [given] if given else []
    return [_message(item) for item in items]


def _message(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        item = {"type": "human", "content": item}
    message = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
    kind = _TYPES.get(str(message.get("type") or message.get("role")))
    content: Any = message.get("content")
    if kind is None or not isinstance(content, str | list):
        raise Problem("invalid", "each message of the input must have a type and content")
    name = message.get("id")
    return {**message, "type": kind, "id": name if isinstance(name, str) and name else new_id("m-")}


def text_of(message: dict[str, Any]) -> str:
    """The text of a message."""
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    blocks = cast("list[Any]", content) if isinstance(content, list) else []
    texts = [
        block if isinstance(block, str) else block.get("text")
        for block in blocks
        if isinstance(block, str) or (isinstance(block, dict) and block.get("type") == "text")
    ]
    return "".join(text for text in texts if isinstance(text, str))


def chat_message(message: dict[str, Any]) -> dict[str, Any]:
    """A message as OpenAI's Chat Completions has it."""
    entry: dict[str, Any] = {"role": _ROLES[message["type"]], "content": text_of(message)}
    if message["type"] == "tool":
        entry["tool_call_id"] = message.get("tool_call_id")
    calls: Any = message.get("tool_calls")
    if message["type"] == "ai" and calls:
        entry["content"] = entry["content"] or None
        entry["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {
                    "name": call["name"],
                    "arguments": msgspec.json.encode(call["args"]).decode(),
                },
            }
            for call in calls
        ]
    return entry


def answers_to(questions: Sequence[ApprovalRequest], value: Any) -> list[Answer]:
    """The answers that the value of a resume gives to what a thread asks.

    A mapping by the ids of interrupts answers each of these; any other value the first one.
    """
    if not questions:
        return []
    ids = {question.id for question in questions}
    if isinstance(value, dict) and value and cast("dict[str, Any]", value).keys() <= ids:
        return [_answer(name, one) for name, one in cast("dict[str, Any]", value).items()]
    return [_answer(questions[0].id, value)]


def _answer(name: str, value: Any) -> Answer:
    """The answer that a value is: a decision of human-in-the-loop, a verdict, or a text."""
    decision = value
    if isinstance(decision, dict) and isinstance(decision.get("decisions"), list):
        decisions = cast("list[Any]", decision["decisions"])
        decision = decisions[0] if decisions else False
    if isinstance(decision, list):
        decision = decision[0] if decision else False
    if not isinstance(decision, dict):
        approved = decision is True or decision in _APPROVING
        reason = decision if isinstance(decision, str) and not approved else None
        return Answer(id=name, approved=approved, reason=reason, data=value)
    fields = cast("dict[str, Any]", decision)
    approved = fields.get("approved") is True or fields.get("type") in _APPROVING
    reason = fields.get("reason") or fields.get("message")
    said = reason if isinstance(reason, str) else None
    return Answer(id=name, approved=approved, reason=said, data=value)
