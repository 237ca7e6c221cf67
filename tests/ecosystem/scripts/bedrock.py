"""boto3's bedrock-runtime: ConverseStream, Converse, and InvokeModelWithResponseStream (Claude)."""

import json
import sys

import boto3

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"toolSpec": {"name": "get_weather", "inputSchema": {"json": SCHEMA}}}
QUESTION = {
    "modelId": "anthropic.claude-sonnet-4-20250514-v1:0",
    "messages": [{"role": "user", "content": [{"text": "What is the weather in Oslo?"}]}],
    "toolConfig": {"tools": [TOOL]},
}
text, reasoning, calls, usage = "", "", [], [0, 0]
client = boto3.client("bedrock-runtime")


def count(counts, *names):
    for position, name in enumerate(names):
        usage[position] += counts.get(name, 0)


def converse_stream():
    global text, reasoning
    for event in client.converse_stream(**QUESTION)["stream"]:
        if start := event.get("contentBlockStart", {}).get("start", {}).get("toolUse"):
            calls.append([start["name"], ""])
        if delta := event.get("contentBlockDelta", {}).get("delta"):
            text += delta.get("text", "")
            reasoning += delta.get("reasoningContent", {}).get("text", "")
            if "toolUse" in delta:
                calls[-1][1] += delta["toolUse"]["input"]
        if "metadata" in event:
            count(event["metadata"]["usage"], "inputTokens", "outputTokens")


def converse():
    global text, reasoning
    reply = client.converse(**QUESTION)
    count(reply["usage"], "inputTokens", "outputTokens")
    for block in reply["output"]["message"]["content"]:
        text += block.get("text", "")
        reasoning += block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "")
        if "toolUse" in block:
            calls.append([block["toolUse"]["name"], json.dumps(block["toolUse"]["input"])])


def invoke_stream():
    global text, reasoning
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
        "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
    }
    reply = client.invoke_model_with_response_stream(
        modelId=QUESTION["modelId"], body=json.dumps(body)
    )
    for event in reply["body"]:
        payload = json.loads(event["chunk"]["bytes"])
        if payload["type"] == "message_start":
            usage[0] += payload["message"]["usage"]["input_tokens"]
        elif payload["type"] == "message_delta":
            usage[1] += payload["usage"]["output_tokens"]
        elif payload["type"] == "content_block_start":
            if payload["content_block"]["type"] == "tool_use":
                calls.append([payload["content_block"]["name"], ""])
        elif payload["type"] == "content_block_delta":
            delta = payload["delta"]
            text += delta.get("text", "")
            reasoning += delta.get("thinking", "")
            if "partial_json" in delta:
                calls[-1][1] += delta["partial_json"]


for _ in range(2):
    globals()[sys.argv[1]]()
calls = [[name, json.loads(arguments)] for name, arguments in calls]
print(json.dumps({"text": text, "reasoning": reasoning, "calls": calls, "usage": usage}))
