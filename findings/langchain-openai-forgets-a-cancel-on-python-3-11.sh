#!/usr/bin/env bash
# An app stops an answer by cancelling the task that reads `ChatOpenAI.astream`. On Python 3.11, 5 to 15 of a hundred
# cancels are forgotten, and the model is read to its end: langchain-openai waits for each chunk with
# `asyncio.wait_for`, which drops a cancel when the chunk has come and the task has not yet gone on with it. With
# `stream_chunk_timeout=None` there is no such wait, and every cancel ends its stream.
#
# langchain-openai 1.7.4, langchain-core 1.8.3, openai 2.54.0, Python 3.11.7, 2026-11-30. Output seen:
#   cancels forgotten, of 100: some (11) by default, 0 with stream_chunk_timeout=None
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
uv venv -q --python 3.11 "$folder/venv"
uv pip install -q --python "$folder/venv/bin/python" langchain-openai==1.7.4 langchain-core==1.8.3 openai==2.54.0
cat >"$folder/probe.py" <<'PY'
import asyncio
import json
import random
import sys

from langchain_openai import ChatOpenAI

STREAMS, WORDS, PACE = 100, 2000, 0.004  # words, and seconds between them


def event(text):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def serve(reader, writer):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for number in range(WORDS):
            writer.write(event(f"{number} "))
            await writer.drain()
            await asyncio.sleep(PACE)
    except (ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


async def stop_one(model):
    """Whether a cancel, at some time in the second after the first chunk, is forgotten."""
    begun = asyncio.Event()

    async def read():
        async for _ in model.astream("hi"):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    await asyncio.sleep(random.random())
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    forgotten = not task.done()
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
    return forgotten


async def forgotten_by(address, **options):
    model = ChatOpenAI(model="m", base_url=address, api_key="unused", max_retries=0, **options)
    return [await stop_one(model) for _ in range(STREAMS // 4)]


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    counts = []
    for options in ({}, {"stream_chunk_timeout": None}):
        found = await asyncio.gather(*(forgotten_by(address, **options) for _ in range(4)))
        counts.append(sum(sum(each) for each in found))
    default, without = counts
    amount = f"some ({default})" if default else "none"
    print(f"cancels forgotten, of {STREAMS}: {amount} by default, {without} with stream_chunk_timeout=None")
    return not default or without > 0


sys.exit(asyncio.run(main()))
PY
"$folder/venv/bin/python" "$folder/probe.py"
