#!/usr/bin/env bash
# An app gives its clients tokens at an `auth_url`, for whom they say they are. Ably's Python client asks without saying
# it where it is an `AblyRealtime`, though `client_id` was given: a URL that trusts the question gives an anonymous token,
# and nothing is raised. An `AblyRest` with the same options says it, but as `client_id`; ably-js and Ably's own
# documentation of token parameters have `clientId`.
#
# ably 3.1.4, 2026-11-30. Output seen:
#   AblyRest asked with {'client_id': 'agent'}
#   AblyRealtime asked with {}
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" ably==3.1.4
cat >"$folder/probe.py" <<'PY'
import asyncio
import json
import logging
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from ably import AblyRealtime, AblyRest

logging.disable()
questions = []


class Tokens(BaseHTTPRequestHandler):
    def do_GET(self):
        question = dict(parse_qsl(urlsplit(self.path).query))
        questions.append(question)
        now = int(time.time() * 1000)
        details = {"token": "app.token", "issued": now, "expires": now + 3_600_000, "capability": '{"*":["*"]}'}
        named = question.get("client_id") or question.get("clientId")
        body = json.dumps({**details, **({"clientId": named} if named else {})}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


async def asked_by(client):
    questions.clear()
    if type(client) is AblyRest:
        await client.auth.authorize()
    else:
        client.connect()
    async with asyncio.timeout(30):
        while not questions:
            await asyncio.sleep(0.01)
    await client.close()
    return questions[0]


async def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    options = {
        "auth_url": f"http://127.0.0.1:{server.server_port}/token",
        "client_id": "agent",
        "endpoint": "127.0.0.1",
        "port": server.server_port,
        "tls": False,
    }
    found = []
    for kind, more in ((AblyRest, {}), (AblyRealtime, {"auto_connect": False})):
        question = await asked_by(kind(**options, **more))
        print(kind.__name__, "asked with", question)
        found.append(question)
    return found != [{"client_id": "agent"}, {}]


sys.exit(asyncio.run(main()))
PY
"$folder/venv/bin/python" "$folder/probe.py"
