"""Reads what LangChain's clients send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tokenwire._ids import new_id
from tokenwire.approvals import Answer, ApprovalRequest
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.ui.json import content_text, list_of, object_of

__all__ = ["answers_to", "chat_message", "messages_in", "text_of"]

_TYPES = {
    "human": "human",
    "user": "human",
    "ai": "ai",
    "assistant": "ai",
    "system": "system",
    "developer": "system",
    "tool": "tool",
}
_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
_APPROVING = frozenset({"approve", "accept", "edit"})


def messages_in(value: Any) -> list[dict[str, Any]]:
    """The messages of a run's input, each with a type and an id.

    :raises Problem: where one is no message.
    """
    given: Any = object_of(value).get("messages")
    if given and not isinstance(given, list):
        return [_message(given)]
    return [_message(item) for item in list_of(given)]


def _message(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        item = {"type": "human", "content": item}
    message = object_of(item)
    kind = _TYPES.get(str(message.get("type") or message.get("role")))
    content: Any = message.get("content")
    if kind is None or not isinstance(content, str | list):
        raise Problem("invalid", "each message of the input must have a type and content")
    name = message.get("id")
    return {**message, "type": kind, "id": name if isinstance(name, str) and name else new_id("m-")}


def text_of(message: dict[str, Any]) -> str:
    """The text of a message."""
    return content_text(message.get("content"))


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
    named = object_of(value)
    if named and named.keys() <= ids:
        return [_answer(name, one) for name, one in named.items()]
    return [_answer(questions[0].id, value)]


def _answer(name: str, value: Any) -> Answer:
    """The answer that a value is: a decision of human-in-the-loop, a verdict, or a text."""
    decision: Any = object_of(value).get("decisions", value)
    if isinstance(decision, list):
        decision = next(iter(list_of(decision)), False)
    if not isinstance(decision, dict):
        approved = decision is True or decision in _APPROVING
        reason = decision if isinstance(decision, str) and not approved else None
        return Answer(id=name, approved=approved, reason=reason, data=value)
    fields = object_of(decision)
    approved = fields.get("approved") is True or fields.get("type") in _APPROVING
    reason = fields.get("reason") or fields.get("message")
    said = reason if isinstance(reason, str) else None
    return Answer(id=name, approved=approved, reason=said, data=value)
