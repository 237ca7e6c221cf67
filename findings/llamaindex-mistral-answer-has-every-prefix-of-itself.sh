#!/usr/bin/env bash
# LlamaIndex's MistralAI streams right deltas, but the message beside them grows by the whole text so
# far with each piece, instead of by the piece: its content is every prefix of the answer in a row.
# An agent takes its answer from there. So a page that shows the deltas is right, and what the agent
# returns, and what its memory sends to the model on the next turn, is not: an answer of 500 pieces
# comes back about 250 times its length.
#
# llama-index-llms-mistralai 0.11.0 with llama-index-core 0.14.25 and mistralai 3.7.0, 2026-11-28.
# Output seen:
#   deltas:    'It rains in Paris.'
#   answer:    '\nIt \nIt rains \nIt rains in \nIt rains in Paris.\nIt rains in Paris.'
#   next turn: 'It It rains It rains in It rains in Paris.It rains in Paris.'
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" \
  llama-index-llms-mistralai==0.11.0 llama-index-core==0.14.25 mistralai==3.7.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import http.server
import json
import sys
import threading

from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.llms.mistralai import MistralAI

ANSWER = "It rains in Paris."
EVERY_PREFIX = "\nIt \nIt rains \nIt rains in \nIt rains in Paris.\nIt rains in Paris."
requests = []


def chunk(delta, finish_reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        chunks = [chunk({"role": "assistant", "content": ""})]
        chunks += [chunk({"content": piece}) for piece in ("It ", "rains ", "in ", "Paris.")]
        chunks += [chunk({"content": ""}, "stop")]
        for part in chunks:
            self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *args):
        pass


def place() -> str:
    """Where the user is."""
    return "Paris"


async def ask(url):
    agent = FunctionAgent(
        tools=[place], llm=MistralAI(model="mistral-large-latest", api_key="x", endpoint=url)
    )
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)
    run = agent.run("Does it rain?", memory=memory)
    deltas = [event.delta async for event in run.stream_events() if isinstance(event, AgentStream)]
    answer = str(await run)
    await agent.run("And tomorrow?", memory=memory)
    return "".join(deltas), answer


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
deltas, answer = asyncio.run(asyncio.wait_for(ask(f"http://127.0.0.1:{server.server_port}"), 60))
(turn,) = [message for message in requests[1]["messages"] if message["role"] == "assistant"]
sent = "".join(block["text"] for block in turn["content"])
print(f"deltas:    {deltas!r}")
print(f"answer:    {answer!r}")
print(f"next turn: {sent!r}")
sys.exit((deltas, answer, sent) != (ANSWER, EVERY_PREFIX, EVERY_PREFIX.replace("\n", "")))
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null
