#!/usr/bin/env bash
# The event-stream standard discards an event whose closing blank line never came. sseclient-py
# delivers it: when a connection breaks inside an event of several data lines, the application gets
# the lines that arrived as if they were the whole event. Its events also carry an id only where
# their own block has one, so an application that saves `event.id` to resume forgets its position.
#
# sseclient-py 1.9.0 with requests 2.34.2, 2026-11-28. Output seen:
#   ('8', 'whole'), (None, 'next'), (None, 'first line of two')
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check sseclient-py==1.9.0 requests==2.34.2
cat >"$folder/probe.py" <<'PY'
import http.server
import sys
import threading

import requests
import sseclient

BODY = b"id: 8\ndata: whole\n\ndata: next\n\ndata: first line of two\n"


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
with requests.get(f"http://127.0.0.1:{server.server_port}/", stream=True) as reply:
    seen = [(event.id, event.data) for event in sseclient.SSEClient(reply).events()]
print(*seen, sep=", ")
sys.exit(seen != [("8", "whole"), (None, "next"), (None, "first line of two")])
PY
"$folder/venv/bin/python" "$folder/probe.py"
