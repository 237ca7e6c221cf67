"""Keeps a conversation such that providers take it: every tool call with its answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from tokenwire_adapters._web.ui.json import list_of

__all__ = ["answered_calls"]


def answered_calls(
    messages: Sequence[dict[str, Any]], waiting: Collection[str | None] = ()
) -> list[dict[str, Any]]:
    """The messages of Chat Completions without tool calls that nothing answers.

    A run that was stopped leaves such calls, and providers refuse all requests with one. Left out
    are also answers to no call, and assistant messages in which nothing is left. An answer that
    came late is put behind the message with its call.

    :param waiting: ids of calls of the last message that the agent itself is about to answer.
    """
    asking: dict[str, int] = {}  # from the ids of calls without an answer so far, to the message
    answers: list[dict[str, dict[str, Any]]] = [{} for _ in messages]
    last = max((i for i, one in enumerate(messages) if one["role"] != "tool"), default=-1)
    for index, message in enumerate(messages):
        for call in list_of(message.get("tool_calls")):
            asking[call["id"]] = index  # ids of some servers are unique in a reply only
        if message["role"] == "tool":
            asked = asking.pop(message["tool_call_id"], None)
            if asked is not None:
                answers[asked][message["tool_call_id"]] = message
    kept: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            answered = {*answers[index], *(waiting if index == last else ())}
            calls = {
                call["id"]: call
                for call in list_of(message.get("tool_calls"))
                if call["id"] in answered
            }
            rest = {name: value for name, value in message.items() if name != "tool_calls"}
            if calls:
                kept.append({**message, "tool_calls": list(calls.values())})
            elif rest.get("content"):
                kept.append(rest)
            kept += answers[index].values()
        elif message["role"] != "tool":
            kept.append(message)
    return kept
