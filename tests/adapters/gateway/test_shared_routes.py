"""Routes of UI protocols share a gateway's dispatcher, connections, metrics and limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway.support import PATIENCE, finished_spans, serving, watching
from tests.support.needs import needs
from tokenwire_adapters.asgi import Gateway, Limits
from tokenwire_adapters.vercel import ChatRoutes

PROTOCOLS = ["vercel", "ag-ui"]
PATHS = {"vercel": "/api/chat", "ag-ui": "/agent"}


async def wait_for_stop(turn: Any) -> None:
    """An agent that writes a word and then runs until it is stopped."""
    turn.response.write("word")
    await anyio.sleep_forever()


def routes_of(protocol: str, sink: tokenwire.Sink, **options: Any) -> Any:
    if protocol == "vercel":
        return ChatRoutes(sink, wait_for_stop, **options)
    needs("ag_ui.core")
    from tokenwire_adapters.ag_ui import AgentRoutes

    return AgentRoutes(sink, wait_for_stop, **options)


def body_of(protocol: str, conversation: str = "c1") -> dict[str, Any]:
    message: dict[str, Any] = {"id": "u1", "role": "user"}
    if protocol == "vercel":
        return {"id": conversation, "messages": [{**message, "parts": []}]}
    return {
        "threadId": conversation,
        "runId": f"run-{conversation}",
        "messages": [{**message, "content": "hi"}],
        "state": {},
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }


@asynccontextmanager
async def app_of(routes: Any, gateway: Gateway | None = None) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=routes.routes)
    if gateway is not None:
        app.router.routes.append(Mount("/tokenwire", gateway))
    with serving(app) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            yield client


@asynccontextmanager
async def streaming(
    client: httpx.AsyncClient, protocol: str, conversation: str = "c1"
) -> AsyncIterator[AsyncIterator[str]]:
    """Send a message, and read its answer as far as the first word."""
    body = body_of(protocol, conversation)
    async with client.stream("POST", PATHS[protocol], json=body) as response:
        assert response.status_code == 200, await response.aread()
        lines = response.aiter_lines()
        with anyio.fail_after(PATIENCE):
            while '"delta"' not in await anext(lines):
                pass
        yield lines


async def metrics_of(client: httpx.AsyncClient) -> dict[Any, float]:
    needs("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    answer = await client.get("/tokenwire/metrics")
    return {
        (sample.name.removeprefix("tokenwire_gateway_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_errors_and_options_are_those_of_the_gateway(
    sink: tokenwire.Sink, protocol: str
) -> None:
    path = PATHS[protocol]
    async with app_of(routes_of(protocol, sink), Gateway(sink)) as client:
        for method, url, status in (
            ("GET", path, 405),
            ("GET", f"{path}/a/b/c", 404),
            ("POST", path, 422),
            ("HEAD", path, 405),
        ):
            answer = await client.request(method, url, json={})
            assert answer.status_code == status
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["cache-control"] == "no-store"
        for url, allow in ((path, "POST, OPTIONS"), (f"{path}/c1/stream", "GET, OPTIONS")):
            answer = await client.options(url)
            assert (answer.status_code, answer.headers["allow"]) == (204, allow)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_requests_and_refusals_are_in_the_metrics(
    sink: tokenwire.Sink, protocol: str
) -> None:
    path, name = PATHS[protocol], {"vercel": "chat", "ag-ui": "agent"}[protocol]
    async with app_of(routes_of(protocol, sink), Gateway(sink)) as client:
        await client.post(path, json={})
        await client.get(f"{path}/c1/stream")
        metrics = await metrics_of(client)
    assert metrics["requests_total", name, "422"] == 1
    assert metrics["requests_total", f"{name}.stream", "204"] == 1
    assert metrics["refused_total", "invalid"] == 1


async def test_requests_of_a_chat_leave_spans(sink: tokenwire.Sink) -> None:
    finished = finished_spans()
    async with app_of(ChatRoutes(sink, wait_for_stop)) as client:
        await client.get("/api/chat/c1/stream")
    span = await anyio.to_thread.run_sync(lambda: finished.get(timeout=60))
    assert span.name == "tokenwire.gateway.request"
    assert dict(span.attributes)["http.route"] == "chat.stream"
    assert dict(span.attributes)["http.response.status_code"] == 204


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_open_stream_counts_in_the_gateway(sink: tokenwire.Sink, protocol: str) -> None:
    routes, gateway = routes_of(protocol, sink), Gateway(sink)
    async with app_of(routes, gateway) as client, streaming(client, protocol):
        assert gateway.connections == 1
        metrics = await metrics_of(client)
        assert metrics["connections", "sse"] == 1
        assert metrics["opened_total", "sse"] == 1
        assert metrics["sent_bytes_total",] > 100
        assert metrics["sent_events_total",] >= 1
    with anyio.fail_after(PATIENCE):
        while gateway.connections:
            await anyio.sleep(0.01)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_is_open_at_both_is_limited_together(
    sink: tokenwire.Sink, protocol: str
) -> None:
    limits = Limits(connections_per_client=2)
    routes, gateway = routes_of(protocol, sink, limits=limits), Gateway(sink, limits=limits)
    async with app_of(routes, gateway) as client:
        async with watching(client, "/tokenwire/channels/c/events"), streaming(client, protocol):
            refused = await client.post(PATHS[protocol], json=body_of(protocol, "c2"))
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            refused = await client.get("/tokenwire/channels/c/events")
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")


async def test_two_uis_count_together_without_a_gateway(sink: tokenwire.Sink) -> None:
    limits = Limits(connections_per_client=1)
    chats = [
        ChatRoutes(sink, wait_for_stop, path=f"/{n}", limits=limits, channel=f"{n}:{{}}".format)
        for n in "ab"
    ]
    app = Starlette(routes=[route for chat in chats for route in chat.routes])
    with serving(app) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with client.stream("POST", "/a", json=body_of("vercel")) as response:
                assert response.status_code == 200
                refused = await client.post("/b", json=body_of("vercel"))
                assert refused.status_code == 429
                for chat in chats:
                    await chat.tasks.cancel("a:c1")


async def test_requests_to_both_are_counted_together(sink: tokenwire.Sink) -> None:
    limits = Limits(request_rate=0.001, request_burst=2)
    chat, gateway = ChatRoutes(sink, wait_for_stop, limits=limits), Gateway(sink, limits=limits)
    async with app_of(chat, gateway) as client:
        assert (await client.get("/api/chat/c1/stream")).status_code == 204
        assert (await client.get("/tokenwire/channels/c/responses")).status_code == 200
        assert (await client.get("/api/chat/c1/stream")).status_code == 429


async def test_a_gateway_that_shuts_down_leaves_chats_open(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink)
    async with app_of(ChatRoutes(sink, wait_for_stop), gateway) as client:
        async with streaming(client, "vercel"), watching(client, "/tokenwire/channels/c/events"):
            assert gateway.connections == 2
            assert await gateway.shutdown(PATIENCE)  # of its own connections, on another loop
            assert gateway.connections == 1
            stop = await client.post("/api/chat/c1/stop")
            assert stop.json()["state"] == "cancelled"


async def test_routes_that_close_leave_the_gateway_open(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink)
    routes = ChatRoutes(sink, wait_for_stop)
    async with app_of(routes, gateway) as client:
        async with watching(client, "/tokenwire/channels/c/events") as stream:
            await stream.next()
            await routes.aclose()
            assert gateway.connections == 1
            assert (await client.get("/tokenwire/readyz")).status_code == 200
            assert (await client.post("/api/chat", json=body_of("vercel"))).status_code == 503
