"""Nobody where they do not belong: every attack of the list, on a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest
import websockets
from starlette.exceptions import HTTPException

import tokenwire
from tests.adapters.gateway.support import (
    PATIENCE,
    SECRET,
    Clock,
    Server,
    chatting,
    serving,
    watching,
)
from tokenwire_adapters._web.gateway.asgi import Request
from tokenwire_adapters._web.gateway.auth import same_origin
from tokenwire_adapters.asgi import AccessDenied, Gateway, Limits, Tokens, mint_token

pytestmark = pytest.mark.in_turn("way")
OTHER = "another secret of the tests, long enough"
ALL = {"*": ["*"]}
ROUTES = [
    ("GET", "/channels/c/events", "subscribe"),
    ("GET", "/channels/c/responses", "history"),
    ("POST", "/channels/c/responses/r1/cancel", "cancel"),
    ("POST", "/channels/c/inputs", "input"),
]


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def ask(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    if method == "POST":
        options["json"] = {"name": "x"} if path.endswith("inputs") else {}
    async with client.stream(method, path, timeout=PATIENCE, **options) as response:
        if "event-stream" not in response.headers.get("content-type", ""):
            await response.aread()
        return response


@pytest.fixture
def secured(sink: tokenwire.Sink) -> Iterator[Server]:
    with serving(Gateway(sink, tokens=Tokens(SECRET))) as server:
        yield server


@pytest.fixture
async def caller(secured: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=secured.url, timeout=PATIENCE) as client:
        yield client


# -- tokens over HTTP


@pytest.mark.parametrize(("method", "path", "action"), ROUTES)
async def test_every_route_wants_a_token_for_its_own_action(
    caller: httpx.AsyncClient, method: str, path: str, action: str
) -> None:
    none = await ask(caller, method, path)
    assert (none.status_code, none.json()["code"]) == (401, "unauthorized")
    assert none.headers["www-authenticate"].startswith("Bearer")
    others = [name for _, _, name in ROUTES if name != action]
    wrong_action = mint_token(SECRET, capability={"*": others})
    wrong_channel = mint_token(SECRET, capability={"d": ["*"], "c?": ["*"], "C": ["*"]})
    for token in (wrong_action, wrong_channel, mint_token(SECRET)):
        answer = await ask(caller, method, path, headers=bearer(token))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert token not in answer.text
    right = mint_token(SECRET, capability={"c": [action]})
    assert (await ask(caller, method, path, headers=bearer(right))).status_code < 300


@pytest.mark.parametrize(("method", "path", "action"), ROUTES)
async def test_bad_tokens_are_refused_everywhere(
    caller: httpx.AsyncClient, method: str, path: str, action: str
) -> None:
    good = mint_token(SECRET, capability=ALL)
    head, body, signature = good.split(".")
    expired = mint_token(SECRET, capability=ALL, clock=lambda: time.time() - 7200)
    answer = await ask(caller, method, path, headers=bearer(expired))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
    for bad in (
        mint_token(OTHER, capability=ALL),
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{encoded({'alg': 'none'})}.{body}.",
        f"{encoded({'alg': 'none'})}.{body}.{signature}",
        "nonsense",
    ):
        answer = await ask(caller, method, path, headers=bearer(bad))
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_a_query_takes_only_short_lived_tokens_and_only_where_it_must(
    caller: httpx.AsyncClient,
) -> None:
    short = mint_token(SECRET, capability=ALL, lifetime=60)
    long = mint_token(SECRET, capability=ALL, lifetime=3600)
    assert (await ask(caller, "GET", f"/channels/c/events?token={short}")).status_code == 200
    assert (await ask(caller, "GET", f"/channels/c/events?token={long}")).status_code == 401
    assert (await ask(caller, "GET", f"/channels/c/responses?token={short}")).status_code == 401


async def test_an_open_stream_ends_when_its_token_expires(sink: tokenwire.Sink) -> None:
    clock = Clock()
    with serving(Gateway(sink, tokens=Tokens(SECRET, clock=clock))) as server:
        token = mint_token(SECRET, capability=ALL, lifetime=60, clock=clock)
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with watching(client, "/channels/c/events", headers=bearer(token)) as stream:
                clock.now += 61
                last = (await stream.rest())[-1]
    assert last.event == "error"
    assert json.loads(last.data)["code"] == "token_expired"


async def test_tokens_are_not_logged(
    sink: tokenwire.Sink, caplog: pytest.LogCaptureFixture
) -> None:
    token = mint_token(SECRET, capability={"c": ["history"]}, lifetime=60)
    options = {"log_level": "debug", "log_config": None, "access_log": True}
    with (
        caplog.at_level(logging.DEBUG),
        serving(Gateway(sink, tokens=Tokens(SECRET)), **options) as server,
    ):
        for name in ("uvicorn", "uvicorn.access", "uvicorn.error"):
            logging.getLogger(name).propagate = True
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            await ask(client, "GET", f"/channels/c/events?token={token}")
            await ask(client, "GET", "/channels/c/responses", headers=bearer(token))
        async with websockets.connect(
            f"{server.ws_url}/channels/c/ws?token={token}", proxy=None, open_timeout=PATIENCE
        ) as connection:
            await connection.recv()
    ours = [record for record in caplog.records if record.name.startswith(("uvicorn", "tokenwire"))]
    assert any("/channels/c/events" in record.getMessage() for record in ours)
    assert any("WebSocket" in record.getMessage() for record in ours)
    for record in ours:
        assert token not in record.getMessage() + repr(record.__dict__)


# -- tokens on sockets


async def test_a_socket_without_a_token_can_do_nothing_but_send_one(secured: Server) -> None:
    async with chatting(secured.ws_url) as chat:
        assert (await chat.receive())["auth"] == "required"
        assert "result" in await chat.ask("ping")
        reply = await chat.ask("auth", token=mint_token(SECRET, subject="u1", capability=ALL))
        assert reply["result"]["principal"] == "u1"
        assert reply["result"]["expires"] > time.time() * 1000
        assert "result" in await chat.ask("subscribe")
    async with chatting(secured.ws_url) as chat:
        assert (await chat.ask("subscribe"))["error"]["code"] == "unauthorized"
        assert (await chat.closed())[0] == 4401
    async with chatting(secured.ws_url) as chat:
        assert (await chat.ask("auth", token="nonsense"))["error"]["code"] == "unauthorized"
        assert (await chat.closed())[0] == 4401


async def test_a_socket_that_sends_no_token_in_time_is_ended(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, tokens=Tokens(SECRET), limits=Limits(auth_timeout=0.3))
    with serving(gateway) as server:
        async with chatting(server.ws_url) as chat:
            assert (await chat.closed())[0] == 4401


async def test_ways_to_bring_a_token_to_a_socket(secured: Server) -> None:
    token = mint_token(SECRET, capability=ALL, lifetime=60)
    for options, query in (
        ({"additional_headers": bearer(token)}, ""),
        ({"subprotocols": ["tokenwire.v1", f"tokenwire.bearer.{token}"]}, ""),
        ({}, f"?token={token}"),
    ):
        url = f"{secured.ws_url}/channels/c/ws{query}"
        async with websockets.connect(
            url, proxy=None, open_timeout=PATIENCE, **options
        ) as connection:
            assert json.loads(await connection.recv())["auth"] == "done"
            assert token not in (connection.subprotocol or "")
    async with chatting(secured.ws_url, additional_headers=bearer("nonsense")) as chat:
        assert (await chat.closed())[0] == 4401


async def test_rights_of_a_socket_are_those_of_its_token(secured: Server) -> None:
    token = mint_token(SECRET, capability={"c": ["subscribe"], "d": ["history"]})
    async with chatting(secured.ws_url, additional_headers=bearer(token)) as chat:
        assert "result" in await chat.ask("subscribe")
        assert (await chat.ask("subscribe", channel="d"))["error"]["code"] == "forbidden"
        for op, fields in (
            ("history", {}),
            ("cancel", {"response": "r"}),
            ("input", {"name": "n"}),
        ):
            assert (await chat.ask(op, **fields))["error"]["code"] == "forbidden", op
        assert "result" in await chat.ask("history", channel="d")


async def test_a_socket_ends_when_its_token_expires_unless_it_was_renewed(
    sink: tokenwire.Sink,
) -> None:
    clock = Clock()
    short = mint_token(SECRET, subject="u1", capability=ALL, lifetime=60, clock=clock)
    long = mint_token(SECRET, subject="u1", capability={"c": ["subscribe"]}, clock=clock)
    with serving(Gateway(sink, tokens=Tokens(SECRET, clock=clock))) as server:
        async with (
            chatting(server.ws_url, additional_headers=bearer(short)) as ends,
            chatting(server.ws_url, additional_headers=bearer(short)) as stays,
        ):
            for chat in (ends, stays):
                await chat.ask("subscribe")
            await stays.ask("subscribe", channel="d")
            await stays.send("auth", token=long)
            # What the new token does not allow is over; the rest goes on.
            lost = await stays.until("error")
            assert (lost["channel"], lost["error"]["code"]) == ("d", "forbidden")
            clock.now += 61
            assert (await ends.closed())[0] == 4401
            assert "result" in await stays.ask("ping")


async def test_a_socket_keeps_its_principal(secured: Server) -> None:
    one, two = (mint_token(SECRET, subject=name, capability=ALL) for name in ("u1", "u2"))
    async with chatting(secured.ws_url, additional_headers=bearer(one)) as chat:
        assert (await chat.ask("auth", token=two))["error"]["code"] == "forbidden"
        assert (await chat.closed())[0] == 4403


# -- authorize


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (True, 200),
        ("u1", 200),
        (False, 403),
        (None, 403),
        (AccessDenied("come with a cookie", status=401), 401),
        (AccessDenied("no"), 403),
        (PermissionError("secret detail"), 403),
        (RuntimeError("secret detail"), 500),
    ],
)
@pytest.mark.parametrize("style", ["sync", "async", "object"])
async def test_authorize_decides(
    sink: tokenwire.Sink, answer: Any, status: int, style: str
) -> None:
    asked = []

    def decide(connection: Any, channel: str, action: str) -> Any:
        asked.append((connection.headers["x-who"], channel, action))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def decide_later(connection: Any, channel: str, action: str) -> Any:
        await asyncio.sleep(0)
        return decide(connection, channel, action)

    class Decider:
        async def __call__(self, connection: Any, channel: str, action: str) -> Any:
            return decide(connection, channel, action)

    authorize = {"sync": decide, "async": decide_later, "object": Decider()}[style]
    with serving(Gateway(sink, authorize=authorize)) as server:
        async with httpx.AsyncClient(
            base_url=server.url, headers={"x-who": "me"}, timeout=PATIENCE
        ) as client:
            response = await ask(client, "GET", "/channels/a%2Fb/responses")
    assert response.status_code == status
    assert asked == [("me", "a/b", "history")]
    assert "secret detail" not in response.text


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (401, 401, "unauthorized"),
        (404, 404, "not_found"),
        (403, 403, "forbidden"),
        (418, 403, "forbidden"),
    ],
)
async def test_authorize_raises_what_apps_of_starlette_raise(
    sink: tokenwire.Sink, raised: int, status: int, code: str
) -> None:
    def authorize(connection: Any, channel: str, action: str) -> Any:
        raise HTTPException(raised, "sign in first")

    with serving(Gateway(sink, authorize=authorize)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            response = await ask(client, "GET", "/channels/c/responses")
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["detail"] == "sign in first"


async def test_with_both_both_must_allow(sink: tokenwire.Sink) -> None:
    seen = []

    def authorize(connection: Any, channel: str, action: str) -> bool:
        seen.append(channel)
        return channel != "d"

    gateway = Gateway(sink, tokens=Tokens(SECRET), authorize=authorize)
    token = mint_token(SECRET, capability={"c": ["*"], "d": ["*"]})
    with serving(gateway) as server:
        async with httpx.AsyncClient(
            base_url=server.url, headers=bearer(token), timeout=PATIENCE
        ) as client:
            statuses = [
                (await ask(client, "GET", f"/channels/{name}/responses")).status_code
                for name in ("c", "d", "e")
            ]
    assert statuses == [200, 403, 403]
    assert seen == ["c", "d"]


async def test_only_its_owner_may_cancel_a_response(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, tokens=Tokens(SECRET), owner="user")
    tokens = {name: mint_token(SECRET, subject=name, capability=ALL) for name in ("u1", "u2")}
    nobody = mint_token(SECRET, capability=ALL)
    with serving(gateway) as server, sink.respond("c", response_id="r1", metadata={"user": "u1"}):
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            path = "/channels/c/responses/r1/cancel"
            for token in (tokens["u2"], nobody):
                answer = await ask(client, "POST", path, headers=bearer(token))
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            unknown = await ask(
                client, "POST", "/channels/c/responses/r9/cancel", headers=bearer(tokens["u1"])
            )
            assert unknown.status_code == 404
            async with chatting(server.ws_url, additional_headers=bearer(tokens["u2"])) as chat:
                assert (await chat.ask("cancel", response="r1"))["error"]["code"] == "forbidden"
            assert sink.history("c").items[0].state == "streaming"
            answer = await ask(client, "POST", path, headers=bearer(tokens["u1"]))
            assert answer.json()["state"] == "cancelled"


async def test_a_refused_cancel_says_what_is_missing(sink: tokenwire.Sink) -> None:
    def principal(connection: Any, channel: str, action: str) -> Any:
        return connection.headers.get("x-user") or True

    gateway = Gateway(sink, authorize=principal, owner="user")
    with (
        serving(gateway) as server,
        sink.respond("c", response_id="mine", metadata={"user": 7}),
        sink.respond("c", response_id="nobody"),
    ):
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:

            async def details(response_id: str, **headers: str) -> str:
                path = f"/channels/c/responses/{response_id}/cancel"
                answer = await client.post(path, headers=headers)
                assert answer.status_code == 403
                return str(answer.json()["detail"])

            assert "metadata has no 'user'" in await details("nobody", **{"x-user": "7"})
            assert "authorize must return" in await details("mine")
            assert "somebody else" in await details("mine", **{"x-user": "8"})
            path = "/channels/c/responses/mine/cancel"
            answer = await client.post(path, headers={"x-user": "7"})
            assert answer.json()["state"] == "cancelled"


@pytest.mark.parametrize("host", ["[", "[::1", "a:b", "a@b", "", "x:99999", "\xff["])
@pytest.mark.parametrize("origin", ["null", "http://[", "http://", "x", "http://x:99999"])
async def test_a_host_that_cannot_be_parsed_is_never_the_same_origin(
    host: str, origin: str
) -> None:
    scope = {"type": "http", "path": "/", "headers": [(b"host", host.encode("latin-1"))]}
    assert not same_origin(Request(scope, Limits()), origin)


async def test_an_input_is_signed_by_the_principal_and_nobody_else(
    caller: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    token = mint_token(SECRET, subject="u1", capability=ALL)
    with sink.watch("c", types={"input"}) as watch:
        body = {"name": "m", "sender": "admin", "data": 1}
        await caller.post("/channels/c/inputs", json=body, headers=bearer(token))
        event = next(watch)
    assert event.sender == "u1"  # type: ignore[union-attr]


# -- deny by default


class From:
    """Makes a request seem to come from elsewhere, as a server would say it."""

    def __init__(self, app: Any, client: tuple[str, int] | None) -> None:
        self._app = app
        self._client = client

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "client": self._client}, receive, send)


@pytest.mark.parametrize(
    ("client", "headers", "allowed"),
    [
        (("127.0.0.1", 1), {}, True),
        (("127.9.9.9", 1), {}, True),
        (("::1", 1), {"host": "[::1]:80"}, True),
        (("::ffff:127.0.0.1", 1), {"host": "localhost"}, True),
        (("127.0.0.1", 1), {"host": "app.localhost:8000"}, True),
        (("10.0.0.1", 1), {}, False),
        (("::ffff:10.0.0.1", 1), {}, False),
        (("8.8.8.8", 1), {"x-forwarded-for": "127.0.0.1"}, False),
        (("not an address", 1), {}, False),
        (None, {}, False),
        # A proxy on this machine connects from loopback.
        (("127.0.0.1", 1), {"x-forwarded-for": "127.0.0.1"}, False),
        (("127.0.0.1", 1), {"forwarded": "for=127.0.0.1"}, False),
        (("127.0.0.1", 1), {"x-real-ip": "127.0.0.1"}, False),
        (("127.0.0.1", 1), {"via": "1.1 proxy"}, False),
        (("127.0.0.1", 1), {"x-forwarded-port": "443"}, False),
        (("127.0.0.1", 1), {"cf-connecting-ip": "10.0.0.1"}, False),
        # A page whose name resolves to this machine (DNS rebinding).
        (("127.0.0.1", 1), {"host": "evil.example"}, False),
        (("127.0.0.1", 1), {"host": "127.0.0.1.evil.example"}, False),
        (("127.0.0.1", 1), {"host": "localhost@evil.example"}, False),
    ],
)
async def test_without_authorization_only_this_machine_is_answered(
    sink: tokenwire.Sink, client: Any, headers: dict[str, str], allowed: bool
) -> None:
    app = From(Gateway(sink), client)
    with serving(app, proxy_headers=False) as server:
        async with httpx.AsyncClient(
            base_url=server.url, headers=headers, timeout=PATIENCE
        ) as http:
            for method, path, _ in ROUTES:
                answer = await ask(http, method, path)
                assert (answer.status_code < 300) is allowed
                if not allowed:
                    assert answer.status_code == 403
                    assert "authorize=" in answer.json()["detail"]
            assert ((await ask(http, "GET", "/metrics")).status_code == 200) is allowed
            assert (await ask(http, "GET", "/healthz")).status_code == 200
        with anyio.fail_after(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            lines = {
                "host": f"127.0.0.1:{server.port}",
                "upgrade": "websocket",
                "connection": "Upgrade",
                "sec-websocket-key": base64.b64encode(b"x" * 16).decode(),
                "sec-websocket-version": "13",
                **headers,
            }
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            writer.write(f"GET /channels/c/ws HTTP/1.1\r\n{head}\r\n".encode())
            status = (await reader.readline()).split()[1]
            writer.close()
        assert status == (b"101" if allowed else b"403")


async def test_a_proxy_that_says_nothing_is_known_by_its_old_http(server: Server) -> None:
    """nginx with a bare proxy_pass: no header of its own, and the upstream's address as host."""
    for version, status in (("1.0", b"403"), ("1.1", b"200")):
        with anyio.fail_after(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"host: 127.0.0.1:{server.port}\r\nconnection: close\r\n\r\n"
            writer.write(f"GET /channels/c/responses HTTP/{version}\r\n{head}".encode())
            assert (await reader.readline()).split()[1] == status
            writer.close()


# -- origins


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("http://127.0.0.1:{port}", True),
        ("https://evil.example", False),
        ("https://app.example.evil.example", False),
        ("https://app.example:444", False),
        ("http://app.example", False),
        ("http://127.0.0.1:1", False),
        ("null", False),
        ("nonsense", False),
        ("https://u@app.example", False),
    ],
)
async def test_pages_of_other_sites_get_nowhere(
    sink: tokenwire.Sink, origin: str, allowed: bool
) -> None:
    gateway = Gateway(sink, allow_origins=["https://app.example"])
    with serving(gateway) as server:
        headers = {"origin": origin.format(port=server.port)}
        async with httpx.AsyncClient(
            base_url=server.url, headers=headers, timeout=PATIENCE
        ) as client:
            for method, path, _ in ROUTES[2:]:
                answer = await ask(client, method, path)
                assert (answer.status_code < 300) is allowed
            read = await ask(client, "GET", ROUTES[1][1])
            cross = origin == "https://app.example"
            assert read.headers.get("access-control-allow-origin") == (origin if cross else None)
            assert "Origin" in read.headers["vary"]
            preflight = await client.options("/channels/c/inputs")
            assert preflight.status_code == 204
            assert ("access-control-allow-headers" in preflight.headers) is cross
        if allowed:
            async with chatting(server.ws_url, additional_headers=headers) as chat:
                assert (await chat.receive())["op"] == "hello"
        else:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with chatting(server.ws_url, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "origins", [["*"], ["https://app.example/"], ["app.example"], [""], "https://app.example"]
)
def test_what_is_no_exact_origin_is_no_setting(sink: tokenwire.Sink, origins: Any) -> None:
    with pytest.raises(ValueError, match="origin"):
        Gateway(sink, allow_origins=origins)


async def test_a_form_of_another_site_cannot_post(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    """What a browser sends without asking first has another content type, or an origin."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = await client.post(
            "/channels/c/inputs", content='{"name":"x"}', headers={"content-type": kind}
        )
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


# -- names, text, headers


@pytest.mark.parametrize(
    "path",
    [
        "/channels//events",
        "/channels/%00/events",
        "/channels/a%0d%0aset-cookie:x/events",
        "/channels/%ff/events",
        "/channels/%zz/events",
        "/channels/%/events",
        "/channels/%ED%A0%80/events",
        "/channels/" + "x" * 257 + "/responses",
        "/channels/c/responses/%0a/cancel",
    ],
)
async def test_tricks_with_names_are_refused(client: httpx.AsyncClient, path: str) -> None:
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=path.encode())
    method = "POST" if path.endswith("cancel") else "GET"
    answer = await client.request(method, url)
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/channels",
        "/channels/c",
        "/channels/c/",
        "/channels/c/events/",
        "/channels/a/b/events",
        "//channels/c/events",
        "/channels/c/%2E%2E/d/responses",
        "/%2E%2E/etc/passwd",
        "/tokenwire.js%2F..%2F..%2Fasgi.py",
        "/healthz/x",
        "/a" * 4000,
    ],
)
async def test_other_paths_lead_nowhere(client: httpx.AsyncClient, path: str) -> None:
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=path.encode())
    answer = await client.get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_one_encoding_of_a_name_is_not_another(sink: tokenwire.Sink) -> None:
    """Rights are looked up by the very name that is then read."""
    seen = []

    def authorize(connection: Any, channel: str, action: str) -> bool:
        seen.append(channel)
        return channel == "public/x"

    with serving(Gateway(sink, authorize=authorize)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            for name, status in (
                ("public%2Fx", 200),
                ("public%252Fx", 403),
                ("public%2Fx%2F..%2Fprivate", 403),
                ("PUBLIC%2Fx", 403),
            ):
                path = f"/channels/{name}/responses".encode()
                url = httpx.URL(server.url).copy_with(raw_path=path)
                assert (await client.get(url)).status_code == status
    assert seen == ["public/x", "public%2Fx", "public/x/../private", "PUBLIC/x"]


async def test_text_cannot_forge_events(client: httpx.AsyncClient, sink: tokenwire.Sink) -> None:
    evil = 'x\n\nevent: error\ndata: {"code":"forged"}\n\nid: forged\nretry: 1\r\r\u2028\x00'
    async with watching(client, "/channels/c/events") as stream:
        await stream.next()
        with sink.respond("c", response_id="r1", metadata={"a\nb": evil}) as response:
            response.write(evil)
            response.data_part(evil, {"x": evil})
        events = await stream.until("end")
    assert {event.event for event in events} == {"message"}
    assert all("forged" not in event.id for event in events)
    assert all(event.retry is None for event in events)


# -- sizes, floods, slowness


async def test_oversized_requests_are_refused(client: httpx.AsyncClient) -> None:
    large = await client.post("/channels/c/inputs", json={"name": "x", "data": "x" * 70_000})
    assert (large.status_code, large.json()["code"]) == (413, "too_large")

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 10_000

    chunked = await client.post("/channels/c/inputs", content=drip())
    assert (chunked.status_code, chunked.json()["code"]) == (413, "too_large")
    url = await client.get("/channels/c/events?x=" + "x" * 9000)
    assert (url.status_code, url.json()["code"]) == (414, "too_large")
    headers = await client.get("/channels/c/events", headers={"x-large": "x" * 40_000})
    assert (headers.status_code, headers.json()["code"]) == (431, "too_large")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 422),
        ("not json", 400),
        ("[]", 422),
        ("{}", 422),
        ('{"name": 7}', 422),
        ('{"name": ""}', 400),
        ('{"name": "x", "id": 7}', 422),
        ('{"name": "x", "id": ""}', 400),
        ("[" * 10_000, 400),
        # The sink of these tests is strict: another one keeps what it can of data so deep (201).
        ('{"name": "x", "data": ' + "[" * 500 + "]" * 500 + "}", 400),
        ('{"name": "x", "data": 1e999}', 400),
        (b'{"name": "\xff"}', 400),
    ],
)
async def test_bodies_are_checked(
    client: httpx.AsyncClient, body: str | bytes, status: int
) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post("/channels/c/inputs", content=body, headers=headers)
    assert answer.status_code == status, answer.text


async def test_a_body_that_does_not_come_is_not_waited_for(sink: tokenwire.Sink) -> None:
    """Slowloris with a body; with headers, it is for the server to end (see docs/deploy.md)."""
    with serving(Gateway(sink, limits=Limits(body_timeout=0.3))) as server:
        with anyio.fail_after(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"host: 127.0.0.1:{server.port}\r\ncontent-type: application/json\r\n"
            writer.write(
                f"POST /channels/c/inputs HTTP/1.1\r\n{head}content-length: 100\r\n\r\n{{".encode()
            )
            assert b" 408 " in await reader.readline()
            writer.close()


async def test_wrong_methods_are_told_the_right_ones(client: httpx.AsyncClient) -> None:
    for method, path, allow in (
        ("POST", "/channels/c/events", "GET"),
        ("DELETE", "/channels/c/responses", "GET, HEAD"),
        ("GET", "/channels/c/inputs", "POST"),
        ("GET", "/channels/c/responses/r/cancel", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("TRACE", "/channels/c/inputs", "POST"),
    ):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == f"{allow}, OPTIONS"
    assert (await client.get("/channels/c/ws")).status_code == 400


async def test_connections_are_counted(sink: tokenwire.Sink) -> None:
    limits = Limits(connections=3, connections_per_client=2)
    with serving(Gateway(sink, limits=limits)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with (
                watching(client, "/channels/c/events"),
                chatting(server.ws_url) as chat,
            ):
                await chat.receive()
                answer = await client.get("/channels/c/events")
                assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
                assert int(answer.headers["retry-after"]) >= 1
                with pytest.raises(websockets.InvalidStatus) as refused:
                    async with chatting(server.ws_url):
                        pass
                assert refused.value.response.status_code == 429
                # Short requests are not lines.
                assert (await client.get("/channels/c/responses")).status_code == 200
            with anyio.fail_after(PATIENCE):
                while (await ask(client, "GET", "/channels/c/events")).status_code != 200:
                    await anyio.sleep(0.02)


async def test_there_are_only_so_many_connections_in_all(sink: tokenwire.Sink) -> None:
    with serving(Gateway(sink, limits=Limits(connections=1))) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with watching(client, "/channels/c/events"):
                answer = await client.get("/channels/c/events")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_connections_of_one_principal_are_counted(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, tokens=Tokens(SECRET), limits=Limits(connections_per_principal=1))
    one, two = (bearer(mint_token(SECRET, subject=s, capability=ALL)) for s in ("u1", "u2"))
    with serving(gateway) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with watching(client, "/channels/c/events", headers=one):
                assert (await client.get("/channels/c/events", headers=one)).status_code == 429
                async with watching(client, "/channels/c/events", headers=two):
                    pass
                async with chatting(server.ws_url) as chat:
                    token = one["authorization"].split()[1]
                    assert (await chat.ask("auth", token=token))["error"]["code"] == "rate_limited"


async def test_an_authorize_that_raises_stop_iteration_is_an_error(sink: tokenwire.Sink) -> None:
    """No future can hold that exception: the request would never be answered."""
    with serving(Gateway(sink, authorize=lambda *_: next(iter(())))) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            assert (await client.get("/channels/c/responses")).status_code == 500


async def test_sockets_count_for_whom_authorize_names(sink: tokenwire.Sink) -> None:
    def who(connection: Any, channel: str, action: str) -> str:
        return str(connection.headers["x-who"])

    gateway = Gateway(sink, authorize=who, limits=Limits(connections_per_principal=1))
    one, two = ({"additional_headers": {"x-who": name}} for name in ("u1", "u2"))
    with serving(gateway) as server:
        async with chatting(server.ws_url, **one) as first, chatting(server.ws_url, **one) as again:
            assert "result" in await first.ask("subscribe")
            assert "result" in await first.ask("subscribe", channel="other")  # counted once
            assert (await again.ask("subscribe"))["error"]["code"] == "rate_limited"
            async with chatting(server.ws_url, **two) as other:
                assert "result" in await other.ask("subscribe")
            await first.socket.close()
            with anyio.fail_after(PATIENCE):
                while "result" not in await again.ask("subscribe"):
                    await anyio.sleep(0.05)


async def test_requests_and_inputs_have_rates(sink: tokenwire.Sink) -> None:
    limits = Limits(request_rate=0.01, request_burst=6, input_rate=0.01, input_burst=2)
    with serving(Gateway(sink, limits=limits)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            statuses = [(await ask(client, "POST", ROUTES[3][1])).status_code for _ in range(4)]
            assert statuses == [201, 201, 429, 429]
            statuses = [(await ask(client, "GET", ROUTES[1][1])).status_code for _ in range(4)]
            assert statuses == [200, 200, 429, 429]
            assert (await client.get("/healthz")).status_code == 200


async def test_a_connection_flood_is_shed_and_others_are_served(sink: tokenwire.Sink) -> None:
    limits = Limits(connections_per_client=20, request_burst=1000)
    with serving(Gateway(sink, limits=limits)) as server:
        pool = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, limits=pool, timeout=PATIENCE) as client:
            opened, refused, enough = [0], [0], asyncio.Event()

            async def hold() -> None:
                async with client.stream("GET", "/channels/c/events", timeout=PATIENCE) as answer:
                    if answer.status_code == 200:
                        opened[0] += 1
                        await enough.wait()
                    else:
                        assert answer.status_code == 429
                        refused[0] += 1

            with anyio.fail_after(PATIENCE):
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(120):
                        tasks.create_task(hold())
                    while opened[0] + refused[0] < 120:
                        await anyio.sleep(0.01)
                    assert (await client.get("/channels/c/responses")).status_code == 200
                    enough.set()
            assert (opened[0], refused[0]) == (20, 100)


def test_limits_are_checked() -> None:
    for wrong in ({"connections": 0}, {"page": 2000}, {"keep_alive": -1}, {"input_rate": "5"}):
        with pytest.raises(ValueError, match="limit"):
            Limits(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"authorize": 7},
        {"tokens": "secret"},
        {"metrics_for": "friends"},
    ],
)
def test_wrong_settings_are_refused(sink: tokenwire.Sink, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Gateway(sink, **options)
