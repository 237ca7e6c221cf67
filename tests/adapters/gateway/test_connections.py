"""What connections are sent by the monitor of a loop, and when their task is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import tokenwire
from tokenwire_adapters._web.gateway.asgi import Request
from tokenwire_adapters._web.gateway.auth import Caller, Guard
from tokenwire_adapters._web.gateway.connections import Connection, Connections
from tokenwire_adapters._web.gateway.limits import Limits
from tokenwire_adapters.asgi import Gateway


class Owner:
    limits = Limits(keep_alive=0.05)
    guard = Guard(None, None)

    def close(self) -> None:
        raise AssertionError("nothing stops here")


class Kept(Connection):
    """A connection that nothing was sent on for a while, and what is sent on it."""

    def __init__(self, owner: Owner, caller: Caller) -> None:
        self.messages: list[Any] = []
        self.received = asyncio.Event()
        super().__init__(owner, caller, self._wait, self._take, "sse")
        self.sent_at -= 10

    async def _wait(self) -> Any:
        await asyncio.Event().wait()

    async def _take(self, message: Any) -> None:
        self.messages.append(message)
        self.received.set()

    def keep_alive(self) -> dict[str, Any]:
        return {"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True}


async def test_a_connection_that_ends_between_two_checks_is_sent_nothing() -> None:
    scope = {"type": "http", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}
    connections, owner = Connections(), Owner()
    caller = Caller(Request(scope, owner.limits))
    ended, other = Kept(owner, caller), Kept(owner, caller)
    with connections.monitored(other):
        with connections.monitored(ended):
            await asyncio.sleep(0)  # the monitor has begun to wait
        await asyncio.wait_for(other.received.wait(), 60)
        for _ in range(10):  # what was begun together with it
            await asyncio.sleep(0)
    assert ended.messages == []
    assert await connections.closed(owner, 60)


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_connection_whose_task_is_cancelled_says_goodbye_and_is_cancelled(
    sink: tokenwire.Sink, kind: str
) -> None:
    """All that daphne does for the applications that it runs, when it stops."""
    sent: list[dict[str, Any]] = []
    begun = asyncio.Event()
    requests = [{"type": "http.request"} if kind == "http" else {"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if b"ready" in message.get("body", b"") or "hello" in message.get("text", ""):
            begun.set()

    path = "/channels/c/events" if kind == "http" else "/channels/c/ws"
    scope = {
        "type": kind,
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "subprotocols": ["tokenwire.v1"],
    }
    gateway = Gateway(sink)
    task = asyncio.create_task(gateway(scope, receive, send))
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    if kind == "http":
        assert b"event: bye" in sent[-1]["body"]
        assert not sent[-1]["more_body"]
    else:
        assert '"op":"bye"' in sent[-2]["text"]
        assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 1012)
    assert gateway.connections == 0
