#!/usr/bin/env bash
# Microsoft's Agent Framework streams an OpenAI reply as updates with a text each. After the pieces
# comes one more update that has the whole text again, marked only by merge_mode "replace" inside
# its contents. A program that joins `update.text`, as one does with any SDK's deltas, shows every
# reply twice.
#
# agent-framework-openai 1.17.0 with agent-framework-core 1.23.0 and openai 3.57.0, 2026-11-28.
# Output seen:
#   'It rains.It rains.'
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  agent-framework-openai==1.17.0 agent-framework-core==1.23.0 openai==3.57.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import http.server
import json
import sys
import threading

from agent_framework.openai import OpenAIChatClient

PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
REPLY = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "in_progress", "model": "m",
    "output": [], "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
    "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto",
    "tools": [], "usage": None,
}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
WHOLE_PART = {**PART, "text": "It rains."}
WHOLE_ITEM = {**ITEM, "status": "completed", "content": [WHOLE_PART]}
USAGE = {
    "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 3,
}
EVENTS = [
    {"type": "response.created", "response": REPLY},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEM},
    {"type": "response.content_part.added", "part": PART, **PLACE},
    {"type": "response.output_text.delta", "delta": "It ", "logprobs": [], **PLACE},
    {"type": "response.output_text.delta", "delta": "rains.", "logprobs": [], **PLACE},
    {"type": "response.output_text.done", "text": "It rains.", "logprobs": [], **PLACE},
    {"type": "response.content_part.done", "part": WHOLE_PART, **PLACE},
    {"type": "response.output_item.done", "output_index": 0, "item": WHOLE_ITEM},
    {
        "type": "response.completed",
        "response": {**REPLY, "status": "completed", "output": [WHOLE_ITEM], "usage": USAGE},
    },
]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for number, event in enumerate(EVENTS):
            data = json.dumps({**event, "sequence_number": number})
            self.wfile.write(f"event: {event['type']}\ndata: {data}\n\n".encode())

    def log_message(self, *args):
        pass


async def joined(url):
    agent = OpenAIChatClient(model="m", api_key="x", base_url=url).as_agent(instructions="Help.")
    text = ""
    async for update in agent.run("Does it rain?", stream=True):
        text += update.text or ""
    return text


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
text = asyncio.run(asyncio.wait_for(joined(f"http://127.0.0.1:{server.server_port}/v1"), 60))
print(repr(text))
sys.exit(text != "It rains.It rains.")
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null
