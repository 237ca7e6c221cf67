"""The ollama package: chat synchronous or asynchronous, and generate."""

import asyncio
import json
import sys

import ollama

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Get it.", "parameters": PARAMETERS}
QUESTION = {
    "model": "m",
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [{"type": "function", "function": WEATHER}],
    "stream": True,
}
text, reasoning, calls, usage = "", "", [], [0, 0]


def count(chunk):
    if chunk.done:
        usage[0] += chunk.prompt_eval_count
        usage[1] += chunk.eval_count


def take(chunk):
    global text, reasoning
    count(chunk)
    text += chunk.message.content or ""
    reasoning += chunk.message.thinking or ""
    for call in chunk.message.tool_calls or []:
        calls.append([call.function.name, dict(call.function.arguments)])


def chat():
    client = ollama.Client()
    for _ in range(2):
        for chunk in client.chat(**QUESTION):
            take(chunk)


async def chat_async():
    client = ollama.AsyncClient()
    for _ in range(2):
        async for chunk in await client.chat(**QUESTION):
            take(chunk)


def generate():
    global text, reasoning
    client = ollama.Client()
    for _ in range(2):
        for chunk in client.generate(model="m", prompt="What is the weather?", stream=True):
            count(chunk)
            text += chunk.response or ""
            reasoning += chunk.thinking or ""


run = globals()[sys.argv[1]]()
if run is not None:
    asyncio.run(run)
said = {"text": text, "reasoning": reasoning, "usage": usage}
print(json.dumps(said if sys.argv[1] == "generate" else said | {"calls": calls}))
