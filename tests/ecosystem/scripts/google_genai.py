"""The google-genai package: generateContent synchronous, asynchronous, whole; Interactions."""

import asyncio
import json
import sys

from google import genai
from google.genai import types

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Get it.", "parameters_json_schema": PARAMETERS}
CONFIG = types.GenerateContentConfig(
    tools=[types.Tool(function_declarations=[types.FunctionDeclaration(**WEATHER)])],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)
QUESTION = {"model": "gemini-3", "contents": "What is the weather in Oslo?", "config": CONFIG}
text, reasoning, calls, usage = "", "", [], [0, 0]


def take(chunk):
    global text, reasoning
    for part in chunk.candidates[0].content.parts or []:
        if part.function_call:
            calls.append([part.function_call.name, part.function_call.args])
        elif part.thought:
            reasoning += part.text
        else:
            text += part.text or ""


def count(chunk):
    counts = chunk.usage_metadata
    usage[0] += counts.prompt_token_count
    usage[1] += (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0)


def sync():
    client = genai.Client()
    for _ in range(2):
        for chunk in client.models.generate_content_stream(**QUESTION):
            take(chunk)
        count(chunk)


def whole():
    client = genai.Client()
    for _ in range(2):
        reply = client.models.generate_content(**QUESTION)
        take(reply)
        count(reply)


async def asynchronous():
    client = genai.Client()
    for _ in range(2):
        async for chunk in await client.aio.models.generate_content_stream(**QUESTION):
            take(chunk)
        count(chunk)


def vertex():
    from google.oauth2.credentials import Credentials

    account = {"project": "p", "location": "europe-north1", "credentials": Credentials("x")}
    client = genai.Client(vertexai=True, **account)
    for _ in range(2):
        for chunk in client.models.generate_content_stream(**QUESTION):
            take(chunk)
        count(chunk)


def interactions():
    global text, reasoning
    client = genai.Client()
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "name": "get_weather", "parameters": parameters}
    for _ in range(2):
        for event in client.interactions.create(
            model="gemini-3", input="What is the weather in Oslo?", tools=[tool], stream=True
        ):
            if event.event_type == "step.start" and event.step.type == "function_call":
                calls.append([event.step.name, ""])
            elif event.event_type == "step.delta":
                if event.delta.type == "text":
                    text += event.delta.text
                elif event.delta.type == "thought_summary":
                    reasoning += event.delta.content.text
                elif event.delta.type == "arguments_delta":
                    calls[-1][1] += event.delta.arguments
            elif event.event_type == "interaction.completed":
                counts = event.interaction.usage
                usage[0] += counts.total_input_tokens
                usage[1] += counts.total_output_tokens + counts.total_thought_tokens
    calls[:] = [[name, json.loads(arguments)] for name, arguments in calls]


run = globals()[sys.argv[1]]()
if run is not None:
    asyncio.run(run)
print(json.dumps({"text": text, "reasoning": reasoning, "calls": calls, "usage": usage}))
