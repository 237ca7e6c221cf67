"""`tokenwire serve --workers`: several processes behind one port."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from httpx_sse import aconnect_sse

from tests.adapters.cli.support import PATIENCE, Running
from tests.adapters.cli.support import tokenwire as run
from tests.redis_support import RedisServer, ServerMissing
from tokenwire import Sink
from tokenwire.events import decode_json
from tokenwire.response import Transcript
from tokenwire_adapters.redis import RedisBackend

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    try:
        with RedisServer() as server:
            yield server
    except ServerMissing:
        pytest.skip("no redis-server here")


@pytest.fixture
def gateway(redis: RedisServer) -> Iterator[tuple[Running, str]]:
    with Running("serve", redis.url, "--port", "0", "--workers", "2", "--no-access-log") as running:
        yield running, running.line(r"(http://\S+) \(.*, 2 workers\)")[1]


def workers_of(running: Running) -> set[int]:
    path = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    return {int(pid) for pid in path.read_text().split()}


def alive(pids: set[int]) -> bool:
    """Whether any process of these is there."""
    return any(Path(f"/proc/{pid}").exists() for pid in pids)


async def watch(url: str, transcript: Transcript, opened: asyncio.Event) -> int:
    """Watch until response r has ended, reconnecting as a browser does; how often that was."""
    cursor, connections = "", 0
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        while "r" not in transcript or not transcript["r"].ended:
            headers = {"Last-Event-ID": cursor} if cursor else {}
            connections += 1
            try:
                address = f"{url}/channels/c/events?rewind=all"
                async with aconnect_sse(client, "GET", address, headers=headers) as source:
                    async for event in source.aiter_sse():
                        cursor = event.id or cursor
                        opened.set()
                        if event.event == "message":
                            transcript.apply(decode_json(event.data))
                        if "r" in transcript and transcript["r"].ended:
                            break
            except httpx.TransportError:
                await anyio.sleep(0.05)
    return connections


async def test_no_watcher_misses_a_token_while_all_workers_are_replaced(
    redis: RedisServer, gateway: tuple[Running, str]
) -> None:
    running, url = gateway
    before = workers_of(running)
    assert len(before) == 2
    transcripts = [Transcript() for _ in range(12)]
    opened = [asyncio.Event() for _ in transcripts]
    text = ""
    with Sink(RedisBackend(redis.url)) as sink:
        response = sink.respond("c", response_id="r")
        response.write("begin ")
        text += "begin "
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            watchers = [
                group.create_task(watch(url, transcript, event))
                for transcript, event in zip(transcripts, opened, strict=True)
            ]
            for event in opened:
                await event.wait()
            running.process.send_signal(signal.SIGHUP)
            replaced = asyncio.ensure_future(
                asyncio.to_thread(running.line, "all workers were replaced")
            )
            number = 0
            while not replaced.done():
                response.write(f"{number} ")
                text += f"{number} "
                number += 1
                await anyio.sleep(0.01)
            await replaced
            response.finish()
    after = workers_of(running)
    assert len(after) == 2
    assert not before & after
    assert [transcript["r"].text for transcript in transcripts] == [text] * 12
    assert all(watcher.result() > 1 for watcher in watchers)


async def test_a_worker_that_dies_is_replaced(gateway: tuple[Running, str]) -> None:
    running, url = gateway
    before = workers_of(running)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    await asyncio.to_thread(running.line, f"worker {victim} ended with status -9")
    with anyio.fail_after(PATIENCE):
        while len(workers_of(running) - {victim}) < 2:
            await anyio.sleep(0.02)
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            assert (await client.get(f"{url}/healthz")).status_code == 200


def test_workers_end_with_their_supervisor(redis: RedisServer) -> None:
    with Running("serve", redis.url, "--port", "0", "--workers", "2") as running:
        running.line("2 workers")
        workers = workers_of(running)
        running.stop()
    assert running.status == 0
    assert not alive(workers)


async def test_workers_end_when_their_supervisor_is_killed(redis: RedisServer) -> None:
    with Running("serve", redis.url, "--port", "0", "--workers", "2") as running:
        running.line("2 workers")
        workers = workers_of(running)
        running.process.kill()
        with anyio.fail_after(PATIENCE):
            while alive(workers):
                await anyio.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("memory://", "--workers", "2"), "a backend that all of them share"),
        (("redis://localhost", "--workers", "0"), "at least 1"),
        (("redis://localhost", "--workers", "2", "--key-file", "-"), "stdin"),
        (("redis://localhost", "--worker", "nonsense"), "starts itself"),
    ],
)
def test_what_cannot_be_is_refused_with_words(arguments: tuple[str, ...], words: str) -> None:
    refused = run("serve", *arguments, stdin="a secret of the tests that is long enough")
    assert refused.returncode != 0
    assert words in refused.stderr


def test_a_worker_that_cannot_start_ends_the_command(redis: RedisServer) -> None:
    wrong = Path(__file__)  # no certificate
    arguments = ("--tls-cert", str(wrong), "--tls-key", str(wrong), "--port", "0", "--workers", "2")
    failed = run("serve", redis.url, *arguments)
    assert failed.returncode == 1
    assert "a worker could not be started" in failed.stderr
