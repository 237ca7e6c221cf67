"""The anthropic package: raw events, the helper, or asynchronous."""

import asyncio
import json
import sys

from anthropic import Anthropic, AsyncAnthropic

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = {
    "model": "m",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [{"name": "get_weather", "description": "Get it.", "input_schema": SCHEMA}],
}
text, reasoning, calls, usage = "", "", [], [0, 0]


def take(event):
    global text, reasoning
    if event.type == "message_start":
        usage[0] += event.message.usage.input_tokens
    elif event.type == "content_block_start" and event.content_block.type == "tool_use":
        calls.append([event.content_block.name, ""])
    elif event.type == "content_block_delta":
        delta = event.delta
        if delta.type == "text_delta":
            text += delta.text
        elif delta.type == "thinking_delta":
            reasoning += delta.thinking
        elif delta.type == "input_json_delta":
            calls[-1][1] += delta.partial_json
    elif event.type == "message_delta":
        usage[1] += event.usage.output_tokens


def events():
    with Anthropic() as client:
        for _ in range(2):
            for event in client.messages.create(**QUESTION, stream=True):
                take(event)


def helper():
    with Anthropic() as client:
        for _ in range(2):
            with client.messages.stream(**QUESTION) as stream:
                for event in stream:
                    take(event)


async def events_async():
    async with AsyncAnthropic() as client:
        for _ in range(2):
            async for event in await client.messages.create(**QUESTION, stream=True):
                take(event)


run = globals()[sys.argv[1]]()
if run is not None:
    asyncio.run(run)
calls = [[name, json.loads(arguments)] for name, arguments in calls]
print(json.dumps({"text": text, "reasoning": reasoning, "calls": calls, "usage": usage}))
