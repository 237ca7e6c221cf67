#!/usr/bin/env bash
# Only CR, LF and CRLF end a line of an event stream. aiosseclient also splits lines at other
# characters that Python counts as line breaks, among them U+2028, which models do write and which
# JSON encoders leave as it is. The text after it, on the same line, is dropped with a warning in
# the log; the event is delivered with what came before, so its JSON no longer parses.
#
# aiosseclient 0.1.8 with aiohttp 3.14.5, 2026-11-28. Output seen:
#   '{"text":"one'
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check aiosseclient==0.1.8 aiohttp==3.14.5
cat >"$folder/probe.py" <<'PY'
import asyncio
import http.server
import json
import sys
import threading

from aiosseclient import aiosseclient

DATA = json.dumps({"text": "one\u2028two"}, ensure_ascii=False, separators=(",", ":"))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(f"data: {DATA}\n\n".encode())

    def log_message(self, *args):
        pass


async def first(url):
    async for event in aiosseclient(url):
        return event.data


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
data = asyncio.run(asyncio.wait_for(first(f"http://127.0.0.1:{server.server_port}/"), 30))
print(repr(data))
sys.exit(data != '{"text":"one')
PY
"$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null
