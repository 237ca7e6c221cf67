"""Compares what a script received, what a watcher saw, and what the provider sent."""

import json
from typing import Any

from tests.ecosystem.rows import Row

__all__ = ["differences_of", "planned_reply", "seen_reply"]

# Where the APIs put the counts of input and of output tokens; several are added.
_INPUT = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokens", "prompt_eval_count")
_INPUT += ("total_input_tokens",)
_OUTPUT = ("completion_tokens", "output_tokens", "outputTokens", "eval_count")
_THOUGHTS_APART = (
    ("candidatesTokenCount", "thoughtsTokenCount"),
    ("total_output_tokens", "total_thought_tokens"),
)


def planned_reply(record: Any) -> dict[str, Any]:
    """What the provider sent."""
    calls = [[call.name, call.value] for call in record.tool_calls]
    if record.api == "ollama-generate":  # which has no tools
        calls = []
    return {"text": record.text, "reasoning": record.reasoning, "calls": calls}


def seen_reply(response: Any) -> dict[str, Any]:
    """What a watcher has of one response."""
    return {
        "text": response.text,
        "reasoning": response.reasoning,
        "calls": [[part.name, _arguments(part.text)] for part in response.tool_calls],
        "usage": usage_of(response.usage),
        "state": response.state,
        "finish": response.finish_reason,
        "error": response.error,
        "provider": response.metadata.get("provider"),
        "api": response.metadata.get("api"),
    }


def usage_of(usage: dict[str, Any] | None) -> list[int] | None:
    """The tokens of input and output, from usage as a provider reported it."""
    if usage is None:
        return None
    counts = usage.get("tokens") if isinstance(usage.get("tokens"), dict) else usage
    read = next((int(counts[name]) for name in _INPUT if counts.get(name) is not None), None)
    written = next((int(counts[name]) for name in _OUTPUT if counts.get(name) is not None), None)
    for names in _THOUGHTS_APART:
        if names[0] in counts:
            written = sum(int(counts.get(name) or 0) for name in names)
    return None if read is None or written is None else [read, written]


def differences_of(
    row: Row, received: dict[str, Any], sent: list[dict[str, Any]], seen: list[dict[str, Any]]
) -> list[str]:
    """Say in sentences what differs."""
    found: list[str] = []
    if row.own_requests:
        sent = []
    elif len(seen) != len(sent):
        found.append(f"the provider sent {len(sent)} replies, the channel has {len(seen)}")
    for number, (reply, response) in enumerate(zip(sent, seen, strict=False)):
        for kind in ("text", "reasoning", "calls"):
            if kind == "reasoning" and row.reasoning is not True:
                continue
            if reply[kind] != response[kind]:
                found.append(f"{kind} {number}: sent {reply[kind]!r}, seen {response[kind]!r}")
    for number, response in enumerate(seen):
        if response["state"] != "complete":
            found.append(f"response {number} is {response['state']}: {response['error']}")
        if not response["finish"]:
            found.append(f"response {number} has no finish reason")
        if row.usage is True and response["usage"] is None:
            found.append(f"response {number} has no usage")
    totals: dict[str, Any] = {
        "text": "".join(response["text"] for response in seen),
        "reasoning": "".join(response["reasoning"] for response in seen),
        "reasoning_and_text": "".join(r["reasoning"] + r["text"] for r in seen),
        "calls": [call for response in seen for call in response["calls"]],
        "usage": [sum((response["usage"] or [0, 0])[side] for response in seen) for side in (0, 1)],
    }
    for kind, value in received.items():
        if totals[kind] != value:
            found.append(f"{kind}: the script received {value!r}, the channel has {totals[kind]!r}")
    return found


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text
