#!/usr/bin/env bash
# Servers that speak OpenAI's API send an error in the middle of a stream as `{"error": "text"}` as
# well as `{"error": {"message": "text"}}`. For the string the SDK raises an APIError that says only
# "An error occurred during streaming": in the exception's text, in logs and in what a user is shown
# the reason is gone. It is left in `error.body` alone.
#
# openai 3.57.0 (2.54.0 likewise), 2026-11-28. Output seen:
#   'An error occurred during streaming' 'the model is overloaded'
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

TYPE = "text/event-stream"
REPLY = b'data: {"error": "the model is overloaded"}\n\n'


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
try:
    list(client.chat.completions.create(model="m", messages=question, stream=True))
except openai.APIError as error:
    print(repr(str(error)), repr(error.body))
    sys.exit("overloaded" in str(error) or error.body != "the model is overloaded")
sys.exit("no error")
PY
"$folder/venv/bin/python" "$folder/probe.py"
