"""Which connections the monitor of a loop sends to."""

from __future__ import annotations

import asyncio
from typing import Any

from tokenwire_adapters._web.gateway.asgi import Request
from tokenwire_adapters._web.gateway.auth import Caller, Guard
from tokenwire_adapters._web.gateway.connections import Connection, Connections
from tokenwire_adapters._web.gateway.limits import Limits


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
