#!/usr/bin/env bash
# Gateways and model servers answer some failures with status 200 and a body that is an error. The
# SDK goes by the status alone: `create()` returns a ChatCompletion whose `choices` and `id` are None,
# whatever their types say, and raises nothing. The program fails later, at `choices[0]`, with a
# TypeError that has nothing of the reason, which is in `model_extra`.
#
# openai 3.57.0 (2.54.0 likewise), 2026-11-28. Output seen:
#   ChatCompletion None None {'error': {'message': 'the model is overloaded'}}
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check openai==3.57.0
cat >"$folder/probe.py" <<'PY'
import http.server
import sys
import threading

import openai

TYPE = "application/json"
REPLY = b'{"error": {"message": "the model is overloaded"}}'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", TYPE)
        self.send_header("content-length", str(len(REPLY)))
        self.end_headers()
        self.wfile.write(REPLY)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_retries=0)
question = [{"role": "user", "content": "hi"}]
reply = client.chat.completions.create(model="m", messages=question)
print(type(reply).__name__, reply.choices, reply.id, reply.model_extra)
sys.exit(reply.choices is not None or "error" not in (reply.model_extra or {}))
PY
"$folder/venv/bin/python" "$folder/probe.py"
