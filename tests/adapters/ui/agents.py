"""Agents as users write them: OpenAI's client, a loop, a tool."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from typing import Any

import openai

from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import Provider, ScriptedReply
from tokenwire_adapters.ui import Turn
from tokenwire_adapters.vercel import ChatTurn

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
REPORT = {"sky": "clear", "celsius": 21}
SLOW = 30.0
# Little reasoning, so that its text begins soon. Long, but no page shall need seconds to show it.
STORY = ScriptedReply(
    reasoning="Now, let me think.",
    text=[f"{number} " if number % 10 else "naïve 東京 " for number in range(1500)],
)


def tell_slowly(provider: Provider) -> None:
    """Have the next reply begin soon, and take longer than any test."""
    provider.pace = SLOW
    provider.script(STORY)


IMAGE = {"media_type": "image/png", "base64": "iVBORw0KGgo="}
SOURCE = {"url": "https://example.com/tides", "title": "Tides"}


async def of_all_kinds(turn: Turn) -> None:
    """Answer with what is neither text nor a tool of the agent's own."""
    response = turn.response
    response.tool_call("web_search", "search-1", '{"query": "tides"}', provider_executed=True)
    response.tool_result("search-1", ["found"])
    response.part("source", data=SOURCE)
    response.part("file", name="image_generation_call", data=IMAGE)
    response.data_part("weather", REPORT)
    response.write("Found.")


class Gate:
    """What one thread opens, and tasks of another wait for."""

    def __init__(self) -> None:
        self._open: concurrent.futures.Future[None] = concurrent.futures.Future()

    def set(self) -> None:
        self._open.set_result(None)

    async def wait(self) -> None:
        await asyncio.shield(asyncio.wrap_future(self._open))


class Agent:
    """Answers with the model, calling its tool where the model asks for it."""

    def __init__(self, provider: Provider, *, here: bool = True) -> None:
        self.provider = provider
        self.here = here
        """Whether the tool is the agent's own; else it is the page's."""
        self.turns: list[ChatTurn] = []

    async def __call__(self, turn: ChatTurn) -> None:
        self.turns.append(turn)
        async with openai.AsyncOpenAI(
            base_url=self.provider.base_url, api_key="unused", max_retries=0
        ) as plain:
            client = wrap(plain, turn.sink)
            messages: Any = turn.chat_messages()
            tools = TOOLS if "weather" in turn.text else openai.omit
            for _ in range(3):
                calls = await self._ask(client, messages, tools)
                if not calls or not self.here:
                    return
                messages.append({"role": "assistant", "tool_calls": list(calls)})
                for call in calls:
                    turn.tool_result(call["id"], REPORT)
                    messages.append(
                        {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(REPORT)}
                    )

    async def _ask(
        self, client: openai.AsyncOpenAI, messages: Any, tools: Any
    ) -> list[dict[str, Any]]:
        calls: dict[int, dict[str, Any]] = {}
        stream = await client.chat.completions.create(
            model="local-reasoner",
            messages=messages,
            tools=tools,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            for choice in chunk.choices:
                for reported in choice.delta.tool_calls or ():
                    call = calls.setdefault(
                        reported.index,
                        {"type": "function", "function": {"name": "", "arguments": ""}},
                    )
                    call["id"] = reported.id or call["id"]
                    assert reported.function is not None
                    call["function"]["name"] += reported.function.name or ""
                    call["function"]["arguments"] += reported.function.arguments or ""
        return list(calls.values())
