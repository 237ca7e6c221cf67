#!/usr/bin/env bash
# OpenAI's Responses API reports a failure inside a stream by an event, `response.failed` or `error`.
# The SDK raises for neither: it yields them, as any event. These frameworks pass over them, so the
# half answer ends as a whole one does, without an exception and without a word in the result. Three of
# them treat an answer cut by `max_output_tokens` alike.
#
# llama-index-llms-openai 0.8.3 (with core 0.14.25), agno 3.1.10, semantic-kernel 1.45.0 and
# agent-framework-openai 1.17.0 (with core 1.23.0), openai 2.54.0, 2026-11-28. Output seen:
#   response.failed: llama_index 'Half an ans', finish reason None
#   response.failed: agno 'Half an ans', last event RunCompleted, status COMPLETED
#   response.failed: semantic_kernel 'Half an ans', finish reason None
#   response.failed: agent_framework 'Half an ans', finish reason None
#   error: llama_index 'Half an ans', finish reason None
#   error: agno 'Half an ans', last event RunCompleted, status COMPLETED
#   error: semantic_kernel 'Half an ans', finish reason None
#   error: agent_framework raised ChatClientException
#   response.incomplete: llama_index 'Half an ans', finish reason None
#   response.incomplete: agno 'Half an ans', last event RunCompleted, status COMPLETED
#   response.incomplete: semantic_kernel 'Half an ans', finish reason None
#   response.incomplete: agent_framework 'Half an ans', finish reason length
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" openai==2.54.0 agno==3.1.10 \
  llama-index-llms-openai==0.8.3 llama-index-core==0.14.25 semantic-kernel==1.45.0 \
  agent-framework-openai==1.17.0 agent-framework-core==1.23.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import http.server
import json
import sys
import threading

from agent_framework.openai import OpenAIChatClient
from agno.agent import Agent
from agno.models.openai import OpenAIResponses as AgnoResponses
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAIResponses as LlamaIndexResponses
from openai import AsyncOpenAI
from semantic_kernel.agents import OpenAIResponsesAgent

MODEL = "gpt-4o"
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
REPLY = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress", "model": MODEL,
    "output": [], "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
    "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto",
    "tools": [], "usage": None,
}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
HALF_PART = {**PART, "text": "Half an ans"}
HALF_ITEM = {**ITEM, "status": "incomplete", "content": [HALF_PART]}
BEGIN = [
    {"type": "response.created", "response": REPLY},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEM},
    {"type": "response.content_part.added", "part": PART, **PLACE},
    {"type": "response.output_text.delta", "delta": "Half an", "logprobs": [], **PLACE},
    {"type": "response.output_text.delta", "delta": " ans", "logprobs": [], **PLACE},
]
FAULT = {"code": "server_error", "message": "The server had an error."}
ENDS = {
    "response.failed": [{"response": {**REPLY, "status": "failed", "error": FAULT}}],
    "error": [{**FAULT, "param": None}],
    "response.incomplete": [
        {"type": "response.output_text.done", "text": "Half an ans", "logprobs": [], **PLACE},
        {"type": "response.content_part.done", "part": HALF_PART, **PLACE},
        {"type": "response.output_item.done", "output_index": 0, "item": HALF_ITEM},
        {
            "response": {
                **REPLY, "status": "incomplete", "output": [HALF_ITEM],
                "incomplete_details": {"reason": "max_output_tokens"},
            }
        },
    ],
}


class Handler(http.server.BaseHTTPRequestHandler):
    end = ""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for number, event in enumerate([*BEGIN, *ENDS[Handler.end]]):
            event = {"type": Handler.end, **event, "sequence_number": number}
            data = json.dumps(event)
            self.wfile.write(f"event: {event['type']}\ndata: {data}\n\n".encode())

    def log_message(self, *args):
        pass


async def llama_index(url):
    text = ""
    llm = LlamaIndexResponses(model=MODEL, api_key="x", api_base=url, max_retries=0)
    async for chunk in await llm.astream_chat([ChatMessage("Does it rain?")]):
        text += chunk.delta or ""
    return f"{text!r}, finish reason {chunk.additional_kwargs.get('finish_reason')}"


async def agno(url):
    agent = Agent(model=AgnoResponses(id=MODEL, api_key="x", base_url=url), telemetry=False)
    run = agent.arun("Does it rain?", stream=True, stream_events=True, yield_run_output=True)
    *_, last, output = [event async for event in run]
    return f"{output.content!r}, last event {last.event}, status {output.status.value}"


async def semantic_kernel(url):
    client = AsyncOpenAI(api_key="x", base_url=url, max_retries=0)
    agent = OpenAIResponsesAgent(ai_model_id=MODEL, client=client, name="a", instructions="Help.")
    text = ""
    async for item in agent.invoke_stream("Does it rain?"):
        text += str(item.message)
    return f"{text!r}, finish reason {item.message.finish_reason}"


async def agent_framework(url):
    agent = OpenAIChatClient(model=MODEL, api_key="x", base_url=url).as_agent(instructions="Help.")
    stream = agent.run("Does it rain?", stream=True)
    async for _ in stream:
        pass
    reply = await stream.get_final_response()
    return f"{reply.text!r}, finish reason {reply.finish_reason}"


async def results(url):
    lines = []
    for end in ENDS:
        Handler.end = end
        for framework in (llama_index, agno, semantic_kernel, agent_framework):
            try:
                result = await framework(url)
            except Exception as error:
                result = f"raised {type(error).__name__}"
            lines.append(f"{end}: {framework.__name__} {result}")
    return lines


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
lines = asyncio.run(asyncio.wait_for(results(f"http://127.0.0.1:{server.server_port}/v1"), 60))
print(*lines, sep="\n")
half = {
    "llama_index": "'Half an ans', finish reason None",
    "agno": "'Half an ans', last event RunCompleted, status COMPLETED",
    "semantic_kernel": "'Half an ans', finish reason None",
    "agent_framework": "'Half an ans', finish reason None",
}
expected = [f"response.failed: {name} {result}" for name, result in half.items()]
half["agent_framework"] = "raised ChatClientException"
expected += [f"error: {name} {result}" for name, result in half.items()]
half["agent_framework"] = "'Half an ans', finish reason length"
expected += [f"response.incomplete: {name} {result}" for name, result in half.items()]
sys.exit(lines != expected)
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null
