"""The gateway inside the apps of others."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import tokenwire
from tests.adapters.gateway.support import PATIENCE, chatting, native, serving, watching
from tests.support.needs import needs
from tokenwire.response import Transcript
from tokenwire_adapters.asgi import Gateway


def in_fastapi(gateway: Gateway) -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/")
    async def index() -> str:
        return "the app's own"

    app.mount("/live/t", gateway)
    return app


def in_starlette(gateway: Gateway) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def index(request: object) -> PlainTextResponse:
        return PlainTextResponse("the app's own")

    inner = [Mount("/t", gateway)]
    return Starlette(routes=[Route("/", index), Mount("/live", routes=inner)])


def in_starlette_with_middleware(gateway: Gateway) -> Any:
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.middleware.gzip import GZipMiddleware

    async def passing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app = in_starlette(gateway)
    app.add_middleware(GZipMiddleware, minimum_size=1)
    app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
    return app


def in_litestar(gateway: Gateway) -> Any:
    litestar = needs("litestar")

    @litestar.get("/", media_type="text/plain", sync_to_thread=False)
    def index() -> str:
        return "the app's own"

    mounted = litestar.asgi("/live/t", is_mount=True, copy_scope=True)(_app_of(gateway))
    return litestar.Litestar([index, mounted])


def _app_of(gateway: Gateway) -> Any:
    async def tokenwire_gateway(scope: Any, receive: Any, send: Any) -> None:
        await gateway(scope, receive, send)

    from litestar.types import Receive, Scope, Send

    tokenwire_gateway.__annotations__ = {
        "scope": Scope,
        "receive": Receive,
        "send": Send,
        "return": None,
    }
    return tokenwire_gateway


def beside_django(gateway: Gateway) -> Any:
    django = needs("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
        django.setup()
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse
    from django.urls import path

    globals()["urlpatterns"] = [path("", lambda request: HttpResponse("the app's own"))]
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(
        routes=[Mount("/live/t", gateway), Mount("/", get_asgi_application())],
    )


@pytest.mark.parametrize(
    "mounted",
    [in_fastapi, in_starlette, in_starlette_with_middleware, in_litestar, beside_django],
)
@pytest.mark.parametrize("root", ["", "/behind/a/proxy"])
async def test_mounted_it_works_as_alone(sink: tokenwire.Sink, mounted: Any, root: str) -> None:
    app = mounted(Gateway(sink))
    with serving(app, root_path=root) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            assert "the app's own" in (await client.get("/")).text
            headers = {"accept-encoding": "gzip"}
            path = "/live/t/channels/a%2Fb/events"
            async with (
                watching(client, path, headers=headers) as stream,
                chatting(f"{server.ws_url}/live/t", "a%2Fb") as chat,
            ):
                assert "content-encoding" not in stream.response.headers
                await stream.next()
                await chat.ask("subscribe")
                with sink.respond("a/b", response_id="r1") as response:
                    response.write("one ")
                    first = await stream.until("delta")
                    response.write("two")
                rest = await stream.until("end")
                while "r1" not in chat.transcript or not chat.transcript["r1"].ended:
                    await chat.receive()
            assert Transcript(native([*first, *rest]))["r1"].text == "one two"
            assert chat.transcript["r1"].text == "one two"
            page = (await client.get("/live/t/channels/a%2Fb/responses")).json()
            assert page["items"][0]["id"] == "r1"
            assert (await client.get("/live/t/healthz")).status_code == 200
            description = (await client.get("/live/t/openapi.json")).json()
            assert description["servers"] == [{"url": f"{root}/live/t"}]


async def test_clients_without_a_network_look_like_this_machine_where_they_say_so(
    gateway: Gateway, sink: tokenwire.Sink
) -> None:
    """As docs/security.md has it."""
    from starlette.testclient import TestClient

    app = in_starlette(gateway)
    with sink.respond("c", response_id="r1") as response:
        response.write("thinking", kind="reasoning")
        response.write("Hel")
        call = response.tool_call("look_up", call_id="t1")
        call.write('{"word":')
        call.write('"lo"}')
        response.write("lo")
    path = "/live/t/channels/c/responses"
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        (item,) = (await client.get(path)).raise_for_status().json()["items"]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get(path)).status_code == 403
    # What clients without a library need not put together of the parts.
    assert (item["text"], item["reasoning"]) == ("Hello", "thinking")
    assert item["tool_calls"] == [item["parts"][2]]
    assert item["tool_calls"][0]["text"] == '{"word":"lo"}'
    with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000)) as local:
        assert local.get(path).json()["items"] == [item]
        with local.websocket_connect("ws://localhost/live/t/channels/c/ws") as socket:
            assert socket.receive_json()["op"] == "hello"
    with TestClient(app) as strange:
        assert strange.get(path).status_code == 403
