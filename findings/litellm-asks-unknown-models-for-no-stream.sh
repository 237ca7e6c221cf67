#!/usr/bin/env bash
# `litellm.responses(stream=True)` streams only models that are in LiteLLM's own list. For any other
# name, a fine-tuned or a self-hosted model, it sends a request without `stream`, waits for the whole
# reply, and plays it back as events. Nothing says so: the first word comes when the last one has been
# written, and nobody can stop the model meanwhile.
#
# litellm 1.110.2, 2026-11-28. Output seen:
#   openai/gpt-4o: the request has stream=True
#   openai/my-model: the request has stream=None
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check litellm==1.110.2
cat >"$folder/probe.py" <<'PY'
import http.server
import json
import os
import sys
import threading

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

asked = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        body = b'{"error": {"message": "enough seen", "type": "invalid_request_error"}}'
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
seen = {}
for model in ("openai/gpt-4o", "openai/my-model"):
    try:
        for _ in litellm.responses(
            model=model, input="Does it rain?", stream=True, api_key="x", max_retries=0,
            api_base=f"http://127.0.0.1:{server.server_port}/v1",
        ):
            pass
    except Exception:
        pass
    seen[model] = asked[-1].get("stream")
    print(f"{model}: the request has stream={seen[model]}")
sys.exit(seen != {"openai/gpt-4o": True, "openai/my-model": None})
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null
