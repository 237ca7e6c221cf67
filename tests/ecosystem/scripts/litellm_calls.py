"""LiteLLM: completion, acompletion or responses, with the model that the argument names."""

import asyncio
import json
import os
import sys

import litellm

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "Get it.", "parameters": PARAMETERS}
way, model = sys.argv[1:3]
options = {"model": model}
if model.startswith("cohere"):
    options["api_base"] = os.environ["PROVIDER_URL"] + "/v2/chat"
elif model.startswith("mistral"):
    options["api_base"] = os.environ["PROVIDER_URL"] + "/mistral/v1"
elif model.startswith("bedrock"):
    options["aws_bedrock_runtime_endpoint"] = os.environ["PROVIDER_URL"]
CHAT = options | {
    "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
    "tools": [{"type": "function", "function": FUNCTION}],
    "stream": True,
}
text, calls = "", []


def take(chunk):
    global text
    for choice in chunk.choices:
        text += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            if call.function.name:
                calls.append([call.function.name, ""])
            calls[-1][1] += call.function.arguments or ""


def completion():
    for _ in range(2):
        for chunk in litellm.completion(**CHAT):
            take(chunk)


async def acompletion():
    for _ in range(2):
        async for chunk in await litellm.acompletion(**CHAT):
            take(chunk)


def responses():
    global text
    question = "What is the weather in Oslo?"
    tools = [{"type": "function", **FUNCTION}]
    for _ in range(2):
        for event in litellm.responses(input=question, tools=tools, stream=True, **options):
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.output_item.done" and event.item.type == "function_call":
                calls.append([event.item.name, event.item.arguments])


run = globals()[way]()
if run is not None:
    asyncio.run(run)
print(json.dumps({"text": text, "calls": [[n, json.loads(a)] for n, a in calls]}))
