"""A gateway that loses events, which ours does not: tokenwire.js reads again, and shows no hole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.needs import needs

needs("starlette")
needs("uvicorn")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.adapters.gateway.support import serving
from tests.adapters.javascript.conftest import Script

pytestmark = pytest.mark.slow

START = {"type": "start", "response_id": "r1"}
SNAPSHOT = {
    "type": "snapshot",
    "response": {
        "id": "r1",
        "state": "complete",
        "parts": [{"kind": "text", "text": "Hello, you"}],
    },
}


def delta(offset: int, text: str) -> dict[str, Any]:
    return {
        "type": "delta",
        "response_id": "r1",
        "part": 0,
        "kind": "text",
        "offset": offset,
        "text": text,
    }


class Liar:
    """Answers one subscription after the other with the next of its stories.

    :ivar asked: where each subscription began: its `after`, its `rewind`.
    """

    def __init__(self, *stories: list[tuple[str, list[dict[str, Any]]]]) -> None:
        self.stories = list(stories)
        self.asked: list[tuple[Any, Any]] = []
        self.app = Starlette(
            routes=[
                Route("/channels/{channel}/events", self.stream),
                WebSocketRoute("/channels/{channel}/ws", self.socket),
            ]
        )

    def next(self, reported: Any) -> list[tuple[str, list[dict[str, Any]]]]:
        self.asked.append((reported.get("after"), reported.get("rewind")))
        return self.stories.pop(0) if self.stories else []

    async def stream(self, request: Request) -> StreamingResponse:
        story = self.next(request.query_params)

        async def body() -> AsyncIterator[str]:
            for number, (cursor, events) in enumerate(story):
                for event in events:
                    mark = f"id: {cursor}\n" if event is events[-1] else ""
                    yield f"{mark}data: {json.dumps(event)}\n\n"
                if number == 0:
                    ready = json.dumps({"type": "ready", "cursor": cursor})
                    yield f"event: ready\nid: {cursor}\ndata: {ready}\n\n"
            while not await request.is_disconnected():
                await asyncio.sleep(0.05)

        return StreamingResponse(body(), media_type="text/event-stream")

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept("tokenwire.v1")
        await socket.send_json({"op": "hello", "protocol": 1, "auth": "none"})
        async for message in socket.iter_json():
            await socket.send_json({"op": "reply", "id": message["id"], "result": {}})
            if message["op"] == "subscribe":
                for cursor, events in self.next(message):
                    await socket.send_json(
                        {"op": "events", "channel": "c", "events": events, "cursor": cursor}
                    )


def _connect(script: Script, url: str, transport: str) -> None:
    script.do("connect", base=url, options={"transport": transport, "minDelay": 20})
    script.do("channel", key="c", name="c", options={"rewind": "all"})


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_reads_again_from_the_last_cursor(script: Script, transport: str) -> None:
    liar = Liar(
        [("1", [START, delta(0, "Hello")]), ("2", [delta(9, "u")])],
        [("3", [delta(5, ", y"), delta(8, "ou")])],
    )
    with serving(liar.app) as server:
        _connect(script, server.url, transport)
        script.wait(on="response", text="Hello, you")
        assert liar.asked == [(None, "all"), ("1", None)]
    assert all("Hello, you".startswith(text) for text in script.texts("c", "r1"))
    assert not [reported for reported in script.reported if reported.get("on") == "reset"]


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_starts_over_where_that_does_not_help(script: Script, transport: str) -> None:
    hole = ("2", [delta(9, "u")])
    liar = Liar([("1", [START, delta(0, "Hello")]), hole], [hole], [("3", [SNAPSHOT])])
    with serving(liar.app) as server:
        _connect(script, server.url, transport)
        script.wait(on="reset", value="gap")
        script.wait(on="response", text="Hello, you", state="complete")
        assert liar.asked == [(None, "all"), ("1", None), (None, "all")]
