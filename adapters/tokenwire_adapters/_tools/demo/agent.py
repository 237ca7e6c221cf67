"""An ordinary chat agent, written with the OpenAI SDK.

It knows nothing of tokenwire: whether somebody watches the streams of its client makes no
difference to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Answer", "ChatAgent", "ToolReport"]

ToolReport = Callable[[str, str, Any], None]
"""Called with the result of a tool: the call's id, the tool's name, the result."""

_SYSTEM = "You are a helpful assistant. Answer in Markdown."
_MAX_TURNS = 4
_MAX_MESSAGES = 40

_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, now.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


@dataclass
class Answer:
    """The answer to one question.

    :ivar completions: the ids that the provider gave its completions, in order.
    :ivar finish_reason: of the last one; None when its stream ended early.
    """

    text: str = ""
    completions: list[str] = field(default_factory=list[str])
    finish_reason: str | None = None


@dataclass
class _Turn:
    text: str = ""
    finish_reason: str | None = None
    calls: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])


class ChatAgent:
    """Holds one conversation.

    :param client: of OpenAI's SDK.
    """

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self._messages: list[dict[str, Any]] = []

    async def answer(
        self,
        question: str,
        *,
        model: str,
        tools: bool = False,
        answer: Answer | None = None,
        on_tool: ToolReport | None = None,
    ) -> Answer:
        """Answer a question, calling tools where the model asks for them.

        :param answer: updated while the model writes.
        """
        answer = answer or Answer()
        self._messages.append({"role": "user", "content": question})
        del self._messages[:-_MAX_MESSAGES]
        for _ in range(_MAX_TURNS):
            turn = await self._turn(model, tools, answer)
            answer.text += turn.text
            answer.finish_reason = turn.finish_reason
            calls = list(turn.calls.values()) if turn.finish_reason == "tool_calls" else []
            message: dict[str, Any] = {"role": "assistant", "content": turn.text}
            self._messages.append({**message, "tool_calls": calls} if calls else message)
            for call in calls:
                self._call(call, on_tool)
            if not calls:
                break
        return answer

    async def _turn(self, model: str, tools: bool, answer: Answer) -> _Turn:
        turn = _Turn()
        messages: Any = [{"role": "system", "content": _SYSTEM}, *self._messages]
        tool_options: dict[str, Any] = {"tools": _TOOLS} if tools else {}
        stream = await self._client.chat.completions.create(
            model=model,
            messages=messages,
            stream=True,
            stream_options={"include_usage": True},
            **tool_options,
        )
        async for chunk in stream:
            if chunk.id and chunk.id not in answer.completions:
                answer.completions.append(chunk.id)
            for choice in chunk.choices:
                turn.text += choice.delta.content or ""
                turn.finish_reason = choice.finish_reason or turn.finish_reason
                for part in choice.delta.tool_calls or ():
                    call = turn.calls.setdefault(
                        part.index,
                        {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
                    )
                    call["id"] = part.id or call["id"]
                    if part.function is not None:
                        call["function"]["name"] += part.function.name or ""
                        call["function"]["arguments"] += part.function.arguments or ""
        return turn

    def _call(self, call: dict[str, Any], on_tool: ToolReport | None) -> None:
        name = call["function"]["name"]
        try:
            city = str(json.loads(call["function"]["arguments"])["city"])
        except (ValueError, LookupError, TypeError):
            city = ""
        result = _weather(city)
        if on_tool is not None:
            on_tool(call["id"], name, result)
        self._messages.append(
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "content": json.dumps(result, ensure_ascii=False),
            }
        )


def _weather(city: str) -> dict[str, Any]:
    """Invented weather, the same for the same city."""
    skies = ("clear ☀️", "a few clouds ⛅", "rain 🌧️", "fog 🌫️", "snow ❄️", "wind 🌬️")
    number = sum(map(ord, city))
    return {"city": city, "sky": skies[number % len(skies)], "celsius": number % 35 - 5}
