"""Pages are shown no paths and no host names; the log has the whole text."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import PATIENCE, serving
from tokenwire_adapters._web.ui.errors import GENERIC, safe_error
from tokenwire_adapters._web.ui.turn import Turn
from tokenwire_adapters.ag_ui import AgentRoutes
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.ui import ProtocolRoutes
from tokenwire_adapters.vercel import ChatRoutes

PRIVATE = "could not open /srv/app/private/keys.db for user root"
TOOL = "upstream exploded at db-internal-7.corp:5432"


@pytest.mark.parametrize(
    "text",
    [
        PRIVATE,
        TOOL,
        "FileNotFoundError: [Errno 2] No such file or directory: 'keys.db'",
        "no such file: ~/secrets",
        "cannot read ./config/prod",
        "cannot import app/private/keys.py",
        r"cannot open C:\Users\root\keys",
        r"cannot open \\fileserver\share",
        "Error 111 connecting to redis:6379. Connection refused.",
        "Cannot connect to host db-7 [Connect call failed ('10.0.0.7', 5432)]",
        "connect to fe80:0:0:1:2:3:4:5 failed",
        "connect to ::1 failed",
        "All connection attempts failed for http://llm-7/v1",
        'connection to server at "db-internal-7" failed',
        'could not translate host name "db-internal" to address',
        "Temporary failure in name resolution",
        "cannot reach localhost",
        "module acme.billing.private has no attribute 'x'",
        "Traceback (most recent call last): x",
        "first line\nsecond line",
    ],
)
def test_what_is_not_shown(text: str) -> None:
    assert safe_error(text) == GENERIC


@pytest.mark.parametrize(
    "text",
    [
        "You have run out of credits.",
        "RateLimitError: Error code: 429 - too many requests for gpt-4.1-mini (3.5 s left)",
        "The server had an error while processing your request. Sorry about that!",
        "the connection broke off before the reply was complete",
        "prices and/or terms changed at 12:30:45, e.g. 24/7 support",
        "naïve 茶 ☃",
    ],
)
def test_what_is_shown(text: str) -> None:
    assert safe_error(text) == text


async def failing(turn: Turn) -> None:
    """An agent whose tool fails, and which then fails itself."""
    with turn.sink.respond() as response:
        response.tool_call("get_weather", "call-1", "{}")
        response.finish("tool_calls")
    turn.tool_result("call-1", error=TOOL)
    raise RuntimeError(PRIVATE)


def routes_of(protocol: str, sink: tokenwire.Sink, **options: Any) -> ProtocolRoutes:
    if protocol == "ag-ui":
        return AgentRoutes(sink, failing, **options)
    return ChatRoutes(sink, failing, **options)


async def shown(protocol: str, routes: ProtocolRoutes) -> str:
    """All that pages are sent of a run, as it streams and later."""
    app = Starlette(routes=routes.routes)
    app.mount("/gateway", Gateway(routes.sink))
    with serving(app) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            if protocol == "ag-ui":
                message = {"id": "m1", "role": "user", "content": "hm?"}
                rest: dict[str, Any] = {"state": {}, "tools": [], "context": []}
                body = {"threadId": "c1", "messages": [message], "forwardedProps": {}, **rest}
                answers = [
                    await client.post("/agent", json={**body, "runId": "r1"}),
                    await client.post("/agent/connect", json={**body, "runId": "r2"}),
                ]
            else:
                parts = [{"type": "text", "text": "hm?"}]
                messages = [{"id": "m1", "role": "user", "parts": parts}]
                answers = [
                    await client.post("/api/chat", json={"id": "c1", "messages": messages}),
                    await client.get("/api/chat/c1/stream"),
                    await client.get("/api/chat/c1/messages"),
                ]
    return "\n".join(answer.raise_for_status().text for answer in answers)


@pytest.mark.parametrize("protocol", ["vercel", "ag-ui"])
async def test_pages_are_shown_no_internals(
    protocol: str, sink: tokenwire.Sink, caplog: pytest.LogCaptureFixture
) -> None:
    text = await shown(protocol, routes_of(protocol, sink))
    assert "private" not in text
    assert "db-internal" not in text
    assert text.count(GENERIC) >= 3
    assert PRIVATE in caplog.text
    assert TOOL in caplog.text


@pytest.mark.parametrize("protocol", ["vercel", "ag-ui"])
async def test_an_app_says_what_pages_are_shown(protocol: str, sink: tokenwire.Sink) -> None:
    asked: list[str] = []

    def on_error(text: str) -> str:
        asked.append(text)
        return "Please try again."

    text = await shown(protocol, routes_of(protocol, sink, on_error=on_error))
    assert "Please try again." in text
    assert GENERIC not in text
    assert set(asked) == {TOOL, f"RuntimeError: {PRIVATE}"}
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as other:
        assert json.dumps(PRIVATE)[1:-1] in await shown(
            protocol, routes_of(protocol, other, on_error=str)
        )


async def test_a_hook_that_fails_shows_nothing(
    sink: tokenwire.Sink, caplog: pytest.LogCaptureFixture
) -> None:
    def on_error(text: str) -> str:
        raise ValueError(text)

    text = await shown("vercel", routes_of("vercel", sink, on_error=on_error))
    assert "private" not in text
    assert GENERIC in text
    assert "on_error failed" in caplog.text


def test_the_hook_must_be_a_function(sink: tokenwire.Sink) -> None:
    with pytest.raises(ValueError, match="on_error"):
        ChatRoutes(sink, failing, on_error="text")  # type: ignore[arg-type]


async def test_the_formats_of_the_gateway(sink: tokenwire.Sink) -> None:
    with sink.respond("c1", response_id="r1") as response:
        response.fail(PRIVATE)
    response.wait(PATIENCE)
    with serving(Gateway(sink)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            for protocol in ("vercel", "ag-ui"):
                params = {"format": protocol, "response": "r1"}
                answer = await client.get("/channels/c1/events", params=params)
                assert GENERIC in answer.text
                assert "private" not in answer.text
