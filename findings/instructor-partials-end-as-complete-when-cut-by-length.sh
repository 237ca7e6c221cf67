#!/usr/bin/env bash
# instructor's `create` raises IncompleteOutputException when the model ran out of tokens. The same
# call streamed, `create_partial`, does not look at the finish reason: the JSON cut in the middle of a
# word is closed for it, and the loop ends as usual with an object that passes the model's validation.
# Who takes the last partial for the result stores half of it. `create_iterable` just leaves out the
# item that was cut.
#
# instructor 1.17.0 with openai 3.3.0, 2026-11-28. Output seen:
#   create: IncompleteOutputException
#   create_partial: title='Rain' steps=['Take an umbrella', 'Put on bo']
#   valid Plan: True
#   create_iterable: ['Take an umbrella']
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" instructor==1.17.0 openai==3.3.0
cat >"$folder/probe.py" <<'PY'
import http.server
import json
import sys
import threading

import instructor
import openai
from pydantic import BaseModel

CUT = {
    "Plan": '{"title": "Rain", "steps": ["Take an umbrella", "Put on bo',
    "PartialPlan": '{"title": "Rain", "steps": ["Take an umbrella", "Put on bo',
    "IterableStep": '{"tasks": [{"what": "Take an umbrella"}, {"what": "Put on bo',
}


class Plan(BaseModel):
    title: str
    steps: list[str]


class Step(BaseModel):
    what: str


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = request["tools"][0]["function"]["name"]
        call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": CUT[name]}}
        stream = request.get("stream", False)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        if not stream:
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            self.wfile.write(json.dumps(self.body("chat.completion", "message", message, "length")).encode())
            return
        piece = {**call, "index": 0}
        chunks = [
            self.body("chat.completion.chunk", "delta", {"role": "assistant", "tool_calls": [piece]}, None),
            self.body("chat.completion.chunk", "delta", {}, "length"),
        ]
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def body(self, kind, key, value, finish_reason):
        choice = {"index": 0, key: value, "finish_reason": finish_reason}
        return {"id": "r1", "object": kind, "created": 1, "model": "m", "choices": [choice]}

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = instructor.from_openai(
    openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="x", max_retries=0)
)
ask = {"model": "m", "messages": [{"role": "user", "content": "What do I do?"}], "max_retries": 0}
try:
    client.create(response_model=Plan, **ask)
    raised = None
except Exception as error:
    raised = type(error).__name__
*_, last = client.create_partial(response_model=Plan, **ask)
valid = Plan.model_validate(last.model_dump()) is not None
steps = [step.what for step in client.create_iterable(response_model=Step, **ask)]
print(f"create: {raised}")
print(f"create_partial: {last}")
print(f"valid Plan: {valid}")
print(f"create_iterable: {steps}")
expected = ("IncompleteOutputException", ["Take an umbrella", "Put on bo"], True, ["Take an umbrella"])
sys.exit((raised, last.steps, valid, steps) != expected)
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null
