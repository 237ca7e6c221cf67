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
    from openai.types.chat import ChatCompletionChunk

__all__ = ["Answer", "ChatAgent", "ToolReport", "Turn", "stream_turn"]

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
class Turn:
    """One reply of the model.

    :ivar completion: the id that the provider gave it; None before it begins.
    :ivar finish_reason: None while it streams, and where its stream ended early.
    """

    completion: str | None = None
    text: str = ""
    finish_reason: str | None = None
    calls: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Add a chunk of the stream."""
        self.completion = chunk.id or self.completion
        for choice in chunk.choices:
            self.text += choice.delta.content or ""
            self.finish_reason = choice.finish_reason or self.finish_reason
            for part in choice.delta.tool_calls or ():
                call = self.calls.setdefault(
                    part.index,
                    {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
                )
                call["id"] = part.id or call["id"]
                if part.function is not None:
                    call["function"]["name"] += part.function.name or ""
                    call["function"]["arguments"] += part.function.arguments or ""


@dataclass
class Answer:
    """The answer to one question: a turn of the model, and one more after each round of tools."""

    turns: list[Turn] = field(default_factory=list[Turn])

    @property
    def text(self) -> str:
        """All that the model wrote."""
        return "".join(turn.text for turn in self.turns)

    @property
    def completions(self) -> list[str]:
        """The ids that the provider gave its completions, in order."""
        return [turn.completion for turn in self.turns if turn.completion is not None]


async def stream_turn(
    client: AsyncOpenAI,
    turn: Turn,
    **request: Any,
) -> None:
    """Ask the model, read its reply."""
    completions = client.chat.completions
    stream = await completions.create(
        stream=True,
        **request,
    )
    async for chunk in stream:
        turn.add(chunk)


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
        options: dict[str, Any] = {"tools": _TOOLS} if tools else {}
        for _ in range(_MAX_TURNS):
            turn = Turn()
            answer.turns.append(turn)
            await stream_turn(
                self._client,
                turn,
                model=model,
                messages=[{"role": "system", "content": _SYSTEM}, *self._messages],
                stream_options={"include_usage": True},
                **options,
            )
            calls = list(turn.calls.values()) if turn.finish_reason == "tool_calls" else []
            message: dict[str, Any] = {"role": "assistant", "content": turn.text}
            self._messages.append({**message, "tool_calls": calls} if calls else message)
            for call in calls:
                self._call(call, on_tool)
            if not calls:
                break
        return answer

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
