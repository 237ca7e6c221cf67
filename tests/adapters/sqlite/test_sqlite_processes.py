"""Four workers of one server and two producers on one file; some of them are killed at random."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from httpx_sse import aconnect_sse

from tokenwire import open_sink
from tokenwire.events import decode_json, ends_response
from tokenwire.response import Transcript

PATIENCE = 90.0
PRODUCER = """
import sys, time
from tokenwire import open_sink
url, name = sys.argv[1:]
with open_sink(url, lease=5.0) as sink:
    number = 0
    while True:
        with sink.respond("c", response_id=f"{name}-{number}") as response:
            for word in range(40):
                response.write(f"{name}-{number} {word} \\u6771 ")
                time.sleep(0.002)
        print(number, response.wait(30).status, flush=True)
        number += 1
"""
APP = """
import os
from tokenwire_adapters.asgi import Gateway
app = Gateway(os.environ["PLACE"])
"""


def text_of(response_id: str) -> str:
    return "".join(f"{response_id} {word} \u6771 " for word in range(40))


async def follow(base: str) -> tuple[Transcript, dict[str, int]]:
    """Watch as a browser does: come back with the last cursor whenever the connection breaks."""
    transcript, ends, last = Transcript(), dict[str, int](), ""
    while True:
        async with httpx.AsyncClient(base_url=base, timeout=5, trust_env=False) as client:
            headers = {"last-event-id": last} if last else {}
            try:
                path = "/channels/c/events?rewind=all"
                async with aconnect_sse(client, "GET", path, headers=headers) as source:
                    async for sse in source.aiter_sse():
                        last = sse.id or last
                        if sse.event == "bye" or not sse.data:
                            continue
                        event = decode_json(sse.data)
                        if event.type == "data":
                            return transcript, ends
                        response_id = event.response_id or ""
                        was_ended = response_id in transcript and transcript[response_id].ended
                        transcript.apply(event)
                        if ends_response(event) and not was_ended:
                            ends[response_id] = ends.get(response_id, 0) + 1
            except (httpx.HTTPError, OSError):
                await asyncio.sleep(0.05)


def workers_of(supervisor: int) -> list[int]:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    workers: list[int] = []
    for pid in children:
        with contextlib.suppress(OSError):  # one that was killed is gone by now
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                workers.append(int(pid))
    return workers


async def kill_at_random(server: int, producers: list[subprocess.Popen[str]], url: str) -> None:
    rng = random.Random(16)
    for step in range(6):
        await asyncio.sleep(rng.uniform(0.3, 0.8))
        if step % 2:
            at = rng.randrange(2)
            producers[at].kill()
            name = f"p{at}{step}"
            producers[at] = start_producer(url, name)
        elif workers := workers_of(server):
            os.kill(rng.choice(workers), signal.SIGKILL)
    await asyncio.sleep(0.5)


def start_server(folder: Path, url: str, port: int) -> subprocess.Popen[bytes]:
    """Start uvicorn with four workers; return the process that supervises them."""
    if not Path("/proc/self/task").exists():
        pytest.skip("the children of a process are read from /proc")
    (folder / "gateway_app.py").write_text(APP)
    command = [sys.executable, "-m", "uvicorn", "gateway_app:app", "--port", str(port)]
    command += ["--workers", "4", "--log-level", "error"]
    environment = {**os.environ, "PLACE": url}
    return subprocess.Popen(command, cwd=folder, env=environment)


_started: list[subprocess.Popen[str]] = []


def start_producer(url: str, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRODUCER, url, name]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    _started.append(process)
    return process


@pytest.mark.slow
async def test_workers_and_producers_that_are_killed(
    tmp_path: Path, url: str, reserved_port: int
) -> None:
    server = start_server(tmp_path, url, reserved_port)
    _started.clear()
    producers = [start_producer(url, f"p{number}") for number in range(2)]
    watchers = [asyncio.create_task(follow(f"http://127.0.0.1:{reserved_port}")) for _ in range(8)]
    try:
        # On a slow machine the others may be killed before they have written anything.
        assert producers[0].stdout is not None
        first = await asyncio.to_thread(producers[0].stdout.readline)
        await kill_at_random(server.pid, producers, url)
        for process in _started:
            process.kill()
        delivered = {}
        for process in _started:
            assert process.stdout is not None
            name = process.args[-1]  # type: ignore[index]
            with process.stdout as output:
                lines = output.read().splitlines()
            if process is _started[0]:
                lines.insert(0, first)
            for line in lines:
                number, status = line.split()
                delivered[f"{name}-{number}"] = status
            process.wait()
        assert delivered
        with open_sink(url) as sink:
            deadline = time.monotonic() + PATIENCE
            items = await _all(sink)
            while any(not one.ended for one in items):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
                items = await _all(sink)
            sink.send_event("c", "done")
            assert await sink.aflush(10)
        kept = {one.id: one for one in items}
        for response_id, status in delivered.items():
            assert status in ("delivered", "recovered")
            assert kept[response_id].text == text_of(response_id)
            assert kept[response_id].state == "complete"
        for one in items:
            assert text_of(one.id).startswith(one.text)
        async with asyncio.timeout(PATIENCE):
            for transcript, ends in await asyncio.gather(*watchers):
                assert {one.id: one.text for one in transcript} == {
                    id_: one.text for id_, one in kept.items()
                }
                assert set(ends.values()) == {1}
                assert {one.id: one.state for one in transcript} == {
                    id_: one.state for id_, one in kept.items()
                }
    finally:
        for task in watchers:
            task.cancel()
        for process in _started:
            process.kill()
        server.terminate()
        server.wait(30)


async def _all(sink):
    page, items = await sink.ahistory("c"), []
    while page is not None:
        items += page.items
        page = await page.anext()
    return items
