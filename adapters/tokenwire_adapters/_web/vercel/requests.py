"""Reads the requests of pages made with the AI SDK."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from tokenwire.approvals import Answer
from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.ui.json import MAX_METADATA, content_text, denial_text, object_of

__all__ = [
    "answers_in",
    "asked_in",
    "is_answered",
    "messages_of",
    "metadata_of",
    "steps_of",
    "text_of",
    "with_history",
]

_ROLES = frozenset({"system", "user", "assistant"})
_ANSWERED = frozenset({"output-available", "output-error", "output-denied"})


def messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The page's messages.

    :raises Problem: where the body has none that are valid.
    """
    messages: Any = body.get("messages")
    if messages is None and "message" in body:
        messages = [body["message"]]
    if not isinstance(messages, list) or not messages:
        raise Problem("invalid", 'the body must have "messages"')
    for message in cast("list[Any]", messages):
        if (
            not isinstance(message, dict)
            or cast("dict[str, Any]", message).get("role") not in _ROLES
            or not isinstance(cast("dict[str, Any]", message).get("parts"), list)
            or not all(isinstance(part, dict) for part in cast("Any", message)["parts"])
        ):
            raise Problem("invalid", "each message must have a role and parts")
    return cast("list[dict[str, Any]]", messages)


def with_history(history: list[dict[str, Any]], message: dict[str, Any]) -> list[dict[str, Any]]:
    """The conversation up to a message that a page sent alone.

    One that the history has (it was edited, is to be answered anew, or has the output of a tool)
    takes the place of itself and of all that came after it.
    """
    name = message.get("id")
    for index, known in enumerate(history):
        if name is not None and known.get("id") == name:
            return [*history[:index], message]
    return [*history, message]


def asked_in(messages: list[dict[str, Any]], body: dict[str, Any]) -> str | None:
    """A key by which a retry of the same request is recognised; None where there is none."""
    last = messages[-1].get("id")
    if not isinstance(last, str) or messages[-1]["role"] != "user":
        return None
    return f"{body.get('trigger')}:{body.get('messageId')}:{last}"[:600]


def metadata_of(messages: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a turn: the messages it answers, and where in the conversation."""
    asked: list[dict[str, Any]] = []
    for message in reversed(messages):
        if message["role"] == "assistant":
            break
        asked.append(message)
    asked.reverse()
    # Without a message of the user, the page continues an answer whose tool it has run itself.
    rest = messages[: -len(asked)] if asked else messages
    metadata: dict[str, Any] = {"messages": [_bounded(message) for message in asked]}
    if rest and isinstance(rest[-1].get("id"), str):
        metadata["after"] = rest[-1]["id"]
    else:
        metadata["first"] = True
    if not asked and isinstance(messages[-1].get("id"), str):
        metadata["message_id"] = messages[-1]["id"]
    key = asked_in(messages, body)
    return {**metadata, **({"asked": key} if key else {})}


def _bounded(message: dict[str, Any]) -> dict[str, Any]:
    """A message, cut where it is too large to send to every watcher."""
    if len(msgspec.json.encode(message)) <= MAX_METADATA:
        return message
    text = text_of(message)[: MAX_METADATA // 4]
    return {
        "id": message.get("id"),
        "role": message["role"],
        "parts": [{"type": "text", "text": text}],
    }


def text_of(message: dict[str, Any]) -> str:
    """The text parts of a message, joined."""
    return content_text(message["parts"])


def steps_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer for a model: text and answered tool calls, a message for each step."""
    steps: list[list[dict[str, Any]]] = [[]]
    for part in message["parts"]:
        if part.get("type") == "step-start":
            steps.append([])
        else:
            steps[-1].append(part)
    entries: list[dict[str, Any]] = []
    for parts in steps:
        text = text_of({"parts": parts})
        # The API has no form for tools that a provider has run: what came of them is in the text.
        calls = [part for part in parts if is_answered(part) and not part.get("providerExecuted")]
        if calls:
            entries.append({"role": "assistant", "content": text or None})
            entries[-1]["tool_calls"] = [_call(part) for part in calls]
            entries += [_call_result(part) for part in calls]
        elif text:
            entries.append({"role": "assistant", "content": text})
    return entries


def answers_in(message: dict[str, Any]) -> list[Answer]:
    """The answers of the page to what the agent asked approval of, in its last message."""
    answers: list[Answer] = []
    for part in message["parts"] if message["role"] == "assistant" else ():
        approval: Any = part.get("approval")
        if part.get("state") != "approval-responded" or not isinstance(approval, dict):
            continue
        try:
            answers.append(msgspec.convert(approval, Answer))
        except msgspec.ValidationError as error:
            raise Problem("invalid", f"an approval is not valid: {error}"[:300]) from error
    return answers


def is_answered(part: dict[str, Any]) -> bool:
    """Whether a part is a tool call with its result."""
    return part.get("state") in _ANSWERED and isinstance(part.get("toolCallId"), str)


def _call(part: dict[str, Any]) -> dict[str, Any]:
    name = part.get("toolName") or str(part.get("type", "")).removeprefix("tool-")
    arguments = msgspec.json.encode(part.get("input", {})).decode()
    return {
        "id": part["toolCallId"],
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _call_result(part: dict[str, Any]) -> dict[str, Any]:
    output = part.get("errorText") if part["state"] == "output-error" else part.get("output")
    if part["state"] == "output-denied":
        output = denial_text(object_of(part.get("approval")).get("reason"))
    content = output if isinstance(output, str) else msgspec.json.encode(output).decode()
    return {"role": "tool", "tool_call_id": part["toolCallId"], "content": content}
