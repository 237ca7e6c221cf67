"""Packages whose streams are OpenAI-like chunks: groq, together, huggingface_hub."""

import asyncio
import json
import os
import sys

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Get it.", "parameters": PARAMETERS}
QUESTION = {
    "model": "m",
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [{"type": "function", "function": WEATHER}],
    "stream": True,
}
text, reasoning, calls = "", "", []


def take(chunk):
    global text, reasoning
    for choice in chunk.choices:
        text += choice.delta.content or ""
        reasoning += choice.delta.reasoning or ""
        for call in choice.delta.tool_calls or []:
            if call.function.name:
                calls.append([call.function.name, ""])
            calls[-1][1] += call.function.arguments or ""


def groq():
    from groq import Groq

    with Groq() as client:
        for _ in range(2):
            for chunk in client.chat.completions.create(**QUESTION):
                take(chunk)


async def groq_async():
    from groq import AsyncGroq

    async with AsyncGroq() as client:
        for _ in range(2):
            async for chunk in await client.chat.completions.create(**QUESTION):
                take(chunk)


def together():
    from together import Together

    client = Together()
    for _ in range(2):
        for chunk in client.chat.completions.create(**QUESTION):
            take(chunk)


def huggingface():
    from huggingface_hub import InferenceClient

    base_url = os.environ["PROVIDER_URL"] + "/huggingface/v1"
    with InferenceClient(base_url=base_url, api_key="x") as client:
        for _ in range(2):
            for chunk in client.chat.completions.create(**QUESTION):
                take(chunk)


async def huggingface_async():
    from huggingface_hub import AsyncInferenceClient

    base_url = os.environ["PROVIDER_URL"] + "/huggingface/v1"
    async with AsyncInferenceClient(base_url=base_url, api_key="x") as client:
        for _ in range(2):
            async for chunk in await client.chat.completions.create(**QUESTION):
                take(chunk)


run = globals()[sys.argv[1]]()
if run is not None:
    asyncio.run(run)
calls = [[name, json.loads(arguments)] for name, arguments in calls]
print(json.dumps({"text": text, "reasoning": reasoning, "calls": calls}))
