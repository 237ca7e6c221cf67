"""The cohere package: version 2 of its chat, synchronous or asynchronous."""

import asyncio
import json
import sys

import cohere

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Get it.", "parameters": PARAMETERS}
QUESTION = {
    "model": "command-a",
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [{"type": "function", "function": WEATHER}],
}
text, reasoning, calls, usage = "", "", [], [0, 0]


def take(event):
    global text, reasoning
    if event.type == "content-delta":
        text += event.delta.message.content.text or ""
        reasoning += event.delta.message.content.thinking or ""
    elif event.type == "tool-call-start":
        calls.append([event.delta.message.tool_calls.function.name, ""])
    elif event.type == "tool-call-delta":
        calls[-1][1] += event.delta.message.tool_calls.function.arguments
    elif event.type == "message-end":
        usage[0] += int(event.delta.usage.tokens.input_tokens)
        usage[1] += int(event.delta.usage.tokens.output_tokens)


def sync():
    client = cohere.ClientV2()
    for _ in range(2):
        for event in client.chat_stream(**QUESTION):
            take(event)


async def asynchronous():
    async with cohere.AsyncClientV2() as client:
        for _ in range(2):
            async for event in client.chat_stream(**QUESTION):
                take(event)


run = globals()[sys.argv[1]]()
if run is not None:
    asyncio.run(run)
calls = [[name, json.loads(arguments)] for name, arguments in calls]
print(json.dumps({"text": text, "reasoning": reasoning, "calls": calls, "usage": usage}))
