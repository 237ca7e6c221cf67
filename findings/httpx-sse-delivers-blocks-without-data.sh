#!/usr/bin/env bash
# The event-stream standard dispatches nothing for a block without a data field, such as a `retry:`
# or an `id:` alone. httpx-sse hands each of them to the application as an event of type `message`
# with empty data. A client that parses every event's data as JSON therefore fails on the first
# block of a server that announces its retry time, although browsers never show that block.
#
# httpx-sse 0.4.3 with httpx 0.28.1, 2026-11-28. Output seen:
#   ('message', '', 2000), ('message', '', None), ('message', '{"n":1}', None)
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check httpx==0.28.1 httpx-sse==0.4.3
cat >"$folder/probe.py" <<'PY'
import http.server
import sys
import threading

import httpx
import httpx_sse

BODY = b'retry: 2000\n\nid: 7\n\ndata: {"n":1}\n\n'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"
with httpx.Client() as client, httpx_sse.connect_sse(client, "GET", url) as source:
    seen = [(event.event, event.data, event.retry) for event in source.iter_sse()]
print(*seen, sep=", ")
sys.exit(seen != [("message", "", 2000), ("message", "", None), ("message", '{"n":1}', None)])
PY
"$folder/venv/bin/python" "$folder/probe.py"
