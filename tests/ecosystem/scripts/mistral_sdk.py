"""The mistralai package, synchronous or asynchronous."""

import asyncio
import json
import os
import sys

from mistralai.client import Mistral

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = {
    "model": "mistral-small",
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}],
}
text, reasoning, calls, usage = "", "", [], [0, 0]


def client():
    return Mistral(api_key="x", server_url=os.environ["PROVIDER_URL"] + "/mistral")


def take(chunk):
    global text, reasoning
    if chunk.usage:
        usage[0] += chunk.usage.prompt_tokens
        usage[1] += chunk.usage.completion_tokens
    delta = chunk.choices[0].delta
    if isinstance(delta.content, str):
        text += delta.content
    else:
        for part in delta.content or []:
            reasoning += "".join(piece.text for piece in part.thinking)
    for call in delta.tool_calls or []:
        calls.append([call.function.name, json.loads(call.function.arguments)])


def sync():
    with client() as mistral:
        for _ in range(2):
            for event in mistral.chat.stream(**QUESTION):
                take(event.data)


async def asynchronous():
    async with client() as mistral:
        for _ in range(2):
            async for event in await mistral.chat.stream_async(**QUESTION):
                take(event.data)


run = globals()[sys.argv[1]]()
if run is not None:
    asyncio.run(run)
print(json.dumps({"text": text, "reasoning": reasoning, "calls": calls, "usage": usage}))
