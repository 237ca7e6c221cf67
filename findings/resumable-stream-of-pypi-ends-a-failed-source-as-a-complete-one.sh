#!/usr/bin/env bash
# A stream made with Python's resumable-stream whose source raises in the middle ends for its reader like a complete one:
# the exception is logged and goes no further, so half an answer is shown, and saved, as a whole one. A stream that ended
# well is told by `has_existing_stream`, which says "DONE"; of this one it goes on to say that it is live.
#
# resumable-stream 0.2.0 (PyPI) with redis 8.1.0 and the system's redis-server, 2026-11-29. Output seen:
#   complete: read ['It rains ', 'in ', 'Paris.'], ended, has_existing_stream 'DONE'
#   failed: read ['It rains ', 'in '], ended, has_existing_stream True
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" resumable-stream==0.2.0 redis==8.1.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import logging
import subprocess
import sys
import time

import redis
from resumable_stream import RedisPublisher, RedisSubscriber, create_resumable_stream_context


async def complete():
    yield "It rains "
    yield "in "
    yield "Paris."


async def failed():
    yield "It rains "
    yield "in "
    raise RuntimeError("the model failed")


async def main(url):
    publisher, subscriber = RedisPublisher(url), RedisSubscriber(url)
    await publisher.connect()
    await subscriber.connect()
    context = create_resumable_stream_context(publisher=publisher, subscriber=subscriber)
    seen = {}
    for source in (complete, failed):
        pieces, end = [], "ended"
        try:
            async for piece in await context.resumable_stream(source.__name__, source):
                pieces.append(piece)
        except Exception as error:
            end = repr(error)
        state = await context.has_existing_stream(source.__name__)
        seen[source.__name__] = pieces, end, state
        print(f"{source.__name__}: read {pieces}, {end}, has_existing_stream {state!r}")
    return seen


def ping(url):
    try:
        return redis.Redis.from_url(url).ping()
    except redis.ConnectionError:
        return False


logging.disable(logging.CRITICAL)
url = f"unix://{sys.argv[1]}/redis.sock"
server = subprocess.Popen(
    ["redis-server", "--port", "0", "--unixsocket", f"{sys.argv[1]}/redis.sock", "--save", "", "--dir", sys.argv[1]],
    stdout=subprocess.DEVNULL,
)
try:
    while not ping(url) and server.poll() is None:
        time.sleep(0.05)
    seen = asyncio.run(asyncio.wait_for(main(url), 30))
finally:
    server.terminate()
    server.wait()
half, whole = ["It rains ", "in "], ["It rains ", "in ", "Paris."]
sys.exit(seen != {"complete": (whole, "ended", "DONE"), "failed": (half, "ended", True)})
PY
"$folder/venv/bin/python" "$folder/probe.py" "$folder"
