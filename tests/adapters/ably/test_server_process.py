"""The local Ably in a thread, in a process of its own, and by its control port."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tokenwire_adapters.testing.ably import AblyServer, ServerThread, Subscriber, realtime

ROOT = Path(__file__).parents[3]


def post(port: int, path: str, **arguments: object) -> dict[str, object]:
    body = json.dumps(arguments).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def get(port: int, path: str) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        return json.load(answer)


def test_a_process_prints_its_address() -> None:
    command = [sys.executable, "-m", "tokenwire_adapters.testing.ably", "--key", "my.id:topsecret"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())
            assert address["key"] == "my.id:topsecret"
            details = get(address["control"], "/auth?clientId=me")
            assert (details["clientId"], details["keyName"]) == ("me", "my.id")
            assert get(address["port"], "/time")
        finally:
            process.terminate()


@pytest.mark.anyio
async def test_faults_by_the_control_port() -> None:
    with ServerThread() as thread:
        server: AblyServer = thread.server
        async with realtime(server) as client:
            seen = Subscriber()
            channel = client.channels.get("ai:x")
            await channel.subscribe(seen.take)
            post(server.control_port, "/faults/nack_next", count=1, code=42911, status=429)
            with pytest.raises(Exception, match="42911"):
                await channel.publish("m", "no")
            await channel.publish("m", "yes")
            await seen.until(lambda subscriber: subscriber.messages)
            assert post(server.control_port, "/faults/disconnect") == {"result": 1}
            await client.connection.once_async("connected")
            assert get(server.control_port, "/stats")["resumes"] == 1


def test_unknown_commands_are_refused() -> None:
    with ServerThread() as thread:
        for path in ("/faults/__init__", "/faults/before_publish", "/elsewhere"):
            with pytest.raises(urllib.error.HTTPError):
                post(thread.server.control_port, path)
        with pytest.raises(urllib.error.HTTPError):
            post(thread.server.control_port, "/faults/stall", nonsense=1)


def test_a_server_vanishes_and_listens_again() -> None:
    with ServerThread() as thread:
        port = thread.server.port
        thread.vanish()
        with pytest.raises(urllib.error.URLError):
            get(port, "/time")
        thread.listen()
        assert thread.server.port == port
        assert get(port, "/time")
        thread.fault("rest_fail_next", 1)
        with pytest.raises(urllib.error.HTTPError):
            get(port, "/time")
