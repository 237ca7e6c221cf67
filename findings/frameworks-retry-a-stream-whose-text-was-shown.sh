#!/usr/bin/env bash
# A model fails in the middle of its answer, after text has gone out. These frameworks then ask again
# within the same run and stream the second answer from its beginning, so a page shows the first half
# twice: nothing takes it back, though Strands says that it waits (`event_loop_throttled_delay`).
# Strands does so unasked when Bedrock throttles a running stream, agno with `retries` of the model,
# Haystack with FallbackChatGenerator. In agno even the content of the finished run has it twice.
#
# strands-agents 1.62.0 with boto3 1.44.8, agno 3.1.10, haystack-ai 3.4.1, openai 2.54.0, 2026-11-28.
# Output seen:
#   strands: streamed 'It rains in It rains in Paris.', result 'It rains in Paris.'
#   agno: streamed 'It rains in It rains in Paris.', result 'It rains in It rains in Paris.'
#   haystack: streamed 'It rains in It rains in Paris.', result 'It rains in Paris.'
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" strands-agents==1.62.0 boto3==1.44.8 \
  agno==3.1.10 haystack-ai==3.4.1 openai==2.54.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import http.server
import json
import logging
import os
import struct
import sys
import threading
import zlib

os.environ.update(
    AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_REGION="us-east-1",
    HAYSTACK_TELEMETRY_ENABLED="False",
)
from agno.agent import Agent as AgnoAgent
from agno.models.openai import OpenAIChat
from haystack.components.generators.chat import FallbackChatGenerator, OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret
from strands import Agent as StrandsAgent
from strands.models import BedrockModel


def frame(kind, name, payload):
    """A message of the `application/vnd.amazon.eventstream` encoding."""
    headers = b""
    for key, value in ((":message-type", kind), (f":{kind}-type", name), (":content-type", "application/json")):
        headers += struct.pack(">B", len(key)) + key.encode()
        headers += struct.pack(">BH", 7, len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


def bedrock(first):
    def text(piece):
        return frame("event", "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}})

    yield frame("event", "messageStart", {"role": "assistant"})
    yield text("It rains ")
    yield text("in ")
    if first:
        yield frame("exception", "throttlingException", {"message": "Too many tokens, please wait."})
        return
    yield text("Paris.")
    yield frame("event", "contentBlockStop", {"contentBlockIndex": 0})
    yield frame("event", "messageStop", {"stopReason": "end_turn"})
    usage = {"inputTokens": 1, "outputTokens": 4, "totalTokens": 5}
    yield frame("event", "metadata", {"usage": usage, "metrics": {"latencyMs": 1}})


def chat_completions(first):
    def chunk(delta, finish_reason=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        data = {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return f"data: {json.dumps(data)}\n\n".encode()

    yield chunk({"role": "assistant", "content": "It rains "})
    yield chunk({"content": "in "})
    if first:
        yield b'data: {"error": {"message": "The server had an error.", "type": "server_error"}}\n\n'
        return
    yield chunk({"content": "Paris."})
    yield chunk({}, "stop")
    yield b"data: [DONE]\n\n"


class Handler(http.server.BaseHTTPRequestHandler):
    requests = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        Handler.requests += 1
        kind, answer = ("vnd.amazon.eventstream", bedrock) if "converse" in self.path else ("", chat_completions)
        self.send_response(200)
        self.send_header("content-type", f"application/{kind}" if kind else "text/event-stream")
        self.end_headers()
        for data in answer(first=Handler.requests == 1):
            self.wfile.write(data)

    def log_message(self, *args):
        pass


async def strands(url):
    agent = StrandsAgent(model=BedrockModel(model_id="m", endpoint_url=url), callback_handler=None)
    streamed = ""
    async for event in agent.stream_async("Does it rain?"):
        streamed += event.get("data", "")
    return streamed, event["result"].message["content"][0]["text"]


async def agno(url):
    model = OpenAIChat(id="m", api_key="x", base_url=f"{url}/v1", max_retries=0, retries=1)
    streamed = ""
    async for event in AgnoAgent(model=model, telemetry=False).arun("Does it rain?", stream=True, stream_events=True):
        if event.event == "RunContent":
            streamed += event.content or ""
    return streamed, event.content


async def haystack(url):
    models = [
        OpenAIChatGenerator(api_key=Secret.from_token("x"), model=name, api_base_url=f"{url}/v1", max_retries=0)
        for name in ("a", "b")
    ]
    pieces = []

    async def show(chunk):
        pieces.append(chunk.content)

    reply = await FallbackChatGenerator(models).run_async(
        [ChatMessage.from_user("Does it rain?")], streaming_callback=show
    )
    return "".join(pieces), reply["replies"][0].text


async def results(url):
    seen = {}
    for framework in (strands, agno, haystack):
        Handler.requests = 0
        seen[framework.__name__] = streamed, result = await framework(url)
        print(f"{framework.__name__}: streamed {streamed!r}, result {result!r}")
    return seen


logging.disable(logging.CRITICAL)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = asyncio.run(asyncio.wait_for(results(f"http://127.0.0.1:{server.server_port}"), 60))
once, twice = "It rains in Paris.", "It rains in It rains in Paris."
sys.exit(seen != {"strands": (twice, once), "agno": (twice, twice), "haystack": (twice, once)})
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null
