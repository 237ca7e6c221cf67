"""The agent that is tested: it asks a model, calls a tool, and asks again."""

from __future__ import annotations

import json
from typing import Any

from openai import OpenAI

import tokenwire
from tokenwire_adapters.openai import wrap

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def get_weather(city: str) -> str:
    """Look up the weather in a city."""
    return f"sunny in {city}"


def run(question: str, channel: str) -> str:
    """Answer a question; a production's sink is on Redis."""
    with tokenwire.open_sink("redis://production:6379") as sink, OpenAI() as openai:
        client = wrap(openai, sink, channel=channel)
        messages: list[Any] = [{"role": "user", "content": question}]
        for _ in range(5):
            reply = client.chat.completions.create(model="gpt-5", messages=messages, tools=TOOLS)
            message: Any = reply.choices[0].message
            if not message.tool_calls:
                return str(message.content)
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                output = get_weather(**json.loads(call.function.arguments))
                sink.tool_result(channel, call.id, output, name="get_weather")
                messages.append({"role": "tool", "tool_call_id": call.id, "content": output})
        raise RuntimeError("the model calls tools without end")
