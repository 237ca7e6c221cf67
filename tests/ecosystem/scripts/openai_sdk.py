"""The openai package: Chat Completions or Responses, synchronous or asynchronous, or whole."""

import asyncio
import json
import sys

from openai import AsyncOpenAI, OpenAI

QUESTION = "What is the weather in Oslo?"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Get the weather.", "parameters": PARAMETERS}
CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": QUESTION}],
    "tools": [{"type": "function", "function": FUNCTION}],
}
RESPONSES = {"model": "m", "input": QUESTION, "tools": [{"type": "function", **FUNCTION}]}

text, calls, usage = "", [], [0, 0]


def count(counts, names):
    for position, name in enumerate(names):
        usage[position] += getattr(counts, name)


def take_chunk(chunk):
    global text
    if chunk.usage:
        count(chunk.usage, ("prompt_tokens", "completion_tokens"))
    for choice in chunk.choices:
        text += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            if call.function.name:
                calls.append([call.function.name, ""])
            calls[-1][1] += call.function.arguments or ""


def take_event(event):
    global text
    if event.type == "response.output_text.delta":
        text += event.delta
    elif event.type == "response.output_item.done" and event.item.type == "function_call":
        calls.append([event.item.name, event.item.arguments])
    elif event.type == "response.completed":
        count(event.response.usage, ("input_tokens", "output_tokens"))


def chat():
    with OpenAI() as client:
        for _ in range(2):
            options = {"stream": True, "stream_options": {"include_usage": True}}
            for chunk in client.chat.completions.create(**CHAT, **options):
                take_chunk(chunk)


async def chat_async():
    async with AsyncOpenAI() as client:
        for _ in range(2):
            options = {"stream": True, "stream_options": {"include_usage": True}}
            async for chunk in await client.chat.completions.create(**CHAT, **options):
                take_chunk(chunk)


def chat_whole():
    global text
    with OpenAI() as client:
        for _ in range(2):
            reply = client.chat.completions.create(**CHAT)
            count(reply.usage, ("prompt_tokens", "completion_tokens"))
            message = reply.choices[0].message
            text += message.content or ""
            for call in message.tool_calls or []:
                calls.append([call.function.name, call.function.arguments])


def responses():
    with OpenAI() as client:
        for _ in range(2):
            for event in client.responses.create(**RESPONSES, stream=True):
                take_event(event)


async def responses_async():
    async with AsyncOpenAI() as client:
        for _ in range(2):
            async for event in await client.responses.create(**RESPONSES, stream=True):
                take_event(event)


run = globals()[sys.argv[1]]()
if run is not None:
    asyncio.run(run)
print(json.dumps({"text": text, "calls": [[n, json.loads(a)] for n, a in calls], "usage": usage}))
