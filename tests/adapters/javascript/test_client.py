"""tokenwire.js against a real gateway, in Node, over both of its transports."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.needs import needs

needs("starlette")
needs("uvicorn")

import itertools

import tokenwire
from tests.adapters.gateway.support import SECRET, Server, serving
from tests.adapters.javascript.conftest import Script
from tests.redis_support import FaultyProxy
from tokenwire_adapters.asgi import Gateway, Limits, Tokens, mint_token

pytestmark = pytest.mark.slow

ALL = {"*": ["*"]}


@pytest.fixture
def sink() -> Iterator[tokenwire.Sink]:
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        yield sink


@pytest.fixture
def server(sink: tokenwire.Sink) -> Iterator[Server]:
    with serving(Gateway(sink)) as server:
        yield server


@pytest.fixture(params=["websocket", "sse"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connected(script: Script, base: str, transport: str, **options: Any) -> None:
    script.do("connect", base=base, options={"transport": transport, "minDelay": 20, **options})


def test_follows_a_response(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    connected(script, server.url, transport)
    script.do("channel", key="c", name="team/7 é", options={"rewind": "all"})
    script.wait(on="status", status="live", transport=transport)
    script.wait(on="ready", key="c")
    text = ""
    with sink.respond("team/7 é", response_id="r1") as response:
        for piece in ("👩🏽\u200d🍳", " and", " 茶"):
            response.write(piece)
            text += piece
            script.wait(on="response", id="r1", text=text)
        response.finish()
    script.wait(on="response", id="r1", state="complete", text="👩🏽\u200d🍳 and 茶")


def test_resumes_through_cuts(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    with FaultyProxy(("127.0.0.1", server.port)) as proxy:
        connected(script, f"http://127.0.0.1:{proxy.port}", transport)
        script.do("channel", key="c", name="c", options={"rewind": "all"})
        script.wait(on="ready")
        text = ""
        with sink.respond("c", response_id="r1") as response:
            for number in range(40):
                piece = f" {number}🙂"
                response.write(piece)
                text += piece
                if number % 8 == 4:
                    proxy.cut(reset=number % 16 == 4)
                if number % 8 == 7:
                    script.wait(on="response", text=text)
        script.wait(on="response", state="complete", text=text)
    seen = script.texts("c", "r1")
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))


def test_joins_late_and_skips_what_is_known(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    for name in ("r1", "r2"):
        with sink.respond("c", response_id=name) as response:
            response.write(f"text of {name}")
    connected(script, server.url, transport)
    script.do("channel", key="all", name="c", options={"rewind": "all"})
    script.wait(on="ready", key="all")
    script.do("channel", key="new", name="c", options={"rewind": "all", "known": ["r1"]})
    script.wait(on="ready", key="new")
    assert script.texts("all", "r1")[-1] == "text of r1"
    assert script.texts("new", "r1") == []
    assert script.texts("new", "r2")[-1] == "text of r2"
    page = script.do("history", key="all", options={"limit": 1})
    assert [item["id"] for item in page["items"]] == ["r2"]
    page = script.do("history", key="all", options={"before": page["next"]})
    assert [item["id"] for item in page["items"]] == ["r1"]


def test_one_response_closes_its_channel(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    connected(script, server.url, transport)
    with sink.respond("c", response_id="r1") as response:
        response.write("Hello")
        script.do("channel", key="c", name="c", options={"response": "r1"})
        script.wait(on="response", text="Hello")
    script.wait(on="response", state="complete", text="Hello")
    script.wait(on="close", key="c")
    script.wait(on="status", status="idle")


def test_cancel_and_send(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    connected(script, server.url, transport)
    script.do("channel", key="c", name="c")
    script.wait(on="ready")
    response = sink.respond("c", response_id="r1")
    response.write("Hel")
    script.wait(on="response", text="Hel")
    outcome = script.do("cancel", key="c", id="r1", reason="enough")
    assert outcome == {"response_id": "r1", "state": "cancelled", "acknowledged": True}
    assert not response.write("lo")
    script.wait(on="response", state="cancelled", text="Hel")
    first = script.do("send", key="c", name="message", data={"text": "hi"}, options={"id": "i1"})
    again = script.do("send", key="c", name="message", data={"text": "hi"}, options={"id": "i1"})
    assert first["id"] == again["id"] == "i1"
    script.wait(on="input")
    script.do("send", key="c", name="message", data=1)
    script.wait(on="input")
    assert [one["value"]["data"] for one in script.reported if one.get("on") == "input"] == [
        {"text": "hi"},
        1,
    ]
    assert script.do("cancel", key="c", id="") == {"failed": "bad_name"}


def test_waits_for_the_gateway_to_come_back(
    script: Script, sink: tokenwire.Sink, transport: str
) -> None:
    with serving(Gateway(sink)) as first, FaultyProxy(("127.0.0.1", first.port)) as proxy:
        connected(script, f"http://127.0.0.1:{proxy.port}", transport, maxDelay=200)
        script.do("channel", key="c", name="c", options={"rewind": "all"})
        script.wait(on="ready")
        response = sink.respond("c", response_id="r1")
        response.write("before")
        script.wait(on="response", text="before")
        proxy.refuse()
        script.wait(on="status", status="waiting")
        call = script.begin("cancel", key="c", id="unknown")
        response.write(", meanwhile")
        proxy.accept()
        script.wait(on="response", text="before, meanwhile")
        assert script.outcome(call)["state"] == "pending"
        response.finish()
        script.wait(on="response", state="complete")


def test_starts_over_in_another_log(script: Script, sink: tokenwire.Sink, transport: str) -> None:
    """What streamed in a log that is gone does not stream for ever."""
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as other,
        serving(Gateway(sink)) as first,
        serving(Gateway(other)) as second,
        FaultyProxy(("127.0.0.1", first.port)) as proxy,
    ):
        with sink.respond("c", response_id="old") as response:
            response.write("old")
            connected(script, f"http://127.0.0.1:{proxy.port}", transport)
            script.do("channel", key="c", name="c", options={"rewind": "all"})
            script.wait(on="response", id="old")
            script.wait(on="ready")
            with other.respond("c", response_id="new") as another:
                another.write("new")
            proxy.target = ("127.0.0.1", second.port)
            proxy.cut()
            script.wait(on="reset", key="c", value="lost")
            script.wait(on="response", id="new", text="new")


def test_a_quiet_response_is_not_lost(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    with FaultyProxy(("127.0.0.1", server.port)) as proxy:
        connected(script, f"http://127.0.0.1:{proxy.port}", transport)
        script.do("channel", key="c", name="c", options={"rewind": "all"})
        with sink.respond("c", response_id="r1") as response:
            response.write("thinking")
            script.wait(on="response", text="thinking")
            proxy.cut()
            script.wait(on="status", status="waiting")
            script.wait(on="status", status="live")
            script.do("history", key="c")
            response.write(" done")
        script.wait(on="response", state="complete", text="thinking done")
    assert not [reported for reported in script.reported if reported.get("on") == "reset"]


def test_starts_over_from_a_cursor_that_is_none(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    with sink.respond("c", response_id="r1") as response:
        response.write("Hello")
    connected(script, server.url, transport)
    script.do("channel", key="c", name="c", options={"after": "nonsense", "rewind": "all"})
    script.wait(on="reset", key="c", value="bad_cursor")
    script.wait(on="response", state="complete", text="Hello")
    script.wait(on="ready")


def test_falls_silent_and_is_noticed(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    with FaultyProxy(("127.0.0.1", server.port)) as proxy:
        base = f"http://127.0.0.1:{proxy.port}"
        connected(script, base, transport, silence=900, maxDelay=100)
        script.do("channel", key="c", name="c", options={"rewind": "all"})
        script.wait(on="ready")
        proxy.half_open("down")  # nothing comes any more, and nobody is told
        with sink.respond("c", response_id="r1") as response:
            response.write("Hello")
        script.wait(on="status", status="waiting")
        proxy.unhalf_open("down")
        script.wait(on="response", id="r1", state="complete", text="Hello")


def test_pause_and_resume(
    script: Script, server: Server, sink: tokenwire.Sink, transport: str
) -> None:
    connected(script, server.url, transport)
    script.do("channel", key="c", name="c")
    script.wait(on="ready")
    script.do("pause")
    script.wait(on="status", status="paused")
    with sink.respond("c", response_id="r1") as response:
        response.write("while away")
    assert script.texts("c", "r1") == []
    script.do("resume")
    script.wait(on="response", state="complete", text="while away")
    script.do("close")
    script.wait(on="status", status="closed")
    assert script.do("channel", key="x", name="x") == {"failed": "closed"}


def test_many_channels_share_a_socket(script: Script, server: Server, sink: tokenwire.Sink) -> None:
    with FaultyProxy(("127.0.0.1", server.port)) as proxy:
        connected(script, f"http://127.0.0.1:{proxy.port}", "websocket")
        for number in range(12):
            script.do("channel", key=f"k{number}", name=f"c{number % 6}", options={"rewind": "all"})
        for number in range(6):
            with sink.respond(f"c{number}", response_id="r") as response:
                response.write(f"text {number}")
        for number in range(12):
            while f"text {number % 6}" not in script.texts(f"k{number}", "r"):
                script.wait(on="response", key=f"k{number}")
        assert proxy.accepted == 1


@pytest.mark.parametrize("count", [17, 64])
def test_all_channels_of_a_page_join_at_once(
    script: Script, server: Server, sink: tokenwire.Sink, count: int
) -> None:
    names = [f"c{number}" for number in range(count)]
    with FaultyProxy(("127.0.0.1", server.port)) as proxy:
        connected(script, f"http://127.0.0.1:{proxy.port}", "websocket")
        script.do("channels", names=names)
        for name in names:
            script.seen(on="ready", key=name)
        assert proxy.accepted == 1
        script.do("pause")
        script.do("resume")
        for name in names:
            with sink.respond(name, response_id="r") as response:
                response.write(name)
        for name in names:
            script.seen(on="response", key=name, state="complete", text=name)
        assert proxy.accepted == 2


def test_a_refusal_by_rate_is_waited_out(
    script: Script, sink: tokenwire.Sink, transport: str
) -> None:
    limits = Limits(request_rate=20.0, request_burst=3)
    names = [f"c{number}" for number in range(12)]
    with serving(Gateway(sink, limits=limits)) as server:
        connected(script, server.url, transport)
        script.do("channels", names=names)
        for name in names:
            script.seen(on="ready", key=name)
        script.do("close")
        script.seen(on="status", status="closed")
    statuses = [one["status"] for one in script.reported if one.get("on") == "status"]
    assert statuses == ["connecting", "live", "idle", "closed"]


def test_a_channel_may_be_left_before_it_is_joined(
    script: Script, server: Server, sink: tokenwire.Sink
) -> None:
    connected(script, server.url, "websocket")
    for _ in range(3):
        script.begin("channels", names=[f"c{number}" for number in range(60)])
        for number in range(60):
            script.begin("close", key=f"c{number}")
    script.do("channel", key="last", name="c0", options={"rewind": "all"})
    script.wait(on="ready", key="last")
    with sink.respond("c0", response_id="r") as response:
        response.write("still here")
    script.wait(on="response", key="last", state="complete", text="still here")
    assert not any(reported.get("on") == "error" for reported in script.reported)


@pytest.mark.parametrize(
    "options", [{"transport": "websocket", "WebSocket": None}, {"transport": "ws"}]
)
def test_a_transport_that_cannot_be_had_is_refused(script: Script, options: dict[str, Any]) -> None:
    outcome = script.do("connect", base="http://127.0.0.1:9", options=options)
    assert "TypeError" in outcome["failed"]
    assert "WebSocket" in outcome["failed"] or "ws" in outcome["failed"]


def test_falls_back_where_sockets_do_not_work(script: Script, sink: tokenwire.Sink) -> None:
    with serving(Gateway(sink), ws="none") as server:
        connected(script, server.url, "auto")
        script.do("channel", key="c", name="c")
        script.wait(on="status", status="live", transport="sse")
        script.wait(on="ready")
        with sink.respond("c", response_id="r1") as response:
            response.write("Hello")
        script.wait(on="response", state="complete", text="Hello")


def test_token_is_renewed(script: Script, sink: tokenwire.Sink, transport: str) -> None:
    tokens = [
        mint_token(SECRET, subject="u1", capability=ALL, lifetime=lifetime) for lifetime in (2, 600)
    ]
    gateway = Gateway(sink, tokens=Tokens(SECRET, leeway=0))
    with serving(gateway) as server:
        options = {"transport": transport, "minDelay": 20}
        script.do("connect", base=server.url, options=options, tokens=tokens)
        script.do("channel", key="c", name="c")
        script.wait(on="ready")
        threading.Event().wait(3)  # it is time itself that ends the first token's rights
        with sink.respond("c", response_id="r1") as response:
            response.write("Hello")
        script.wait(on="response", state="complete", text="Hello")
        assert script.do("cancel", key="c", id="r1")["state"] == "complete"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (None, "unauthorized"),
        ("nonsense", "unauthorized"),
        (mint_token(SECRET, capability={"other": ["*"]}), "forbidden"),
        (
            mint_token(SECRET, capability=ALL, lifetime=1, clock=lambda: time.time() - 99),
            "token_expired",
        ),
    ],
)
def test_refused_for_good(
    script: Script, sink: tokenwire.Sink, transport: str, token: str | None, code: str
) -> None:
    with serving(Gateway(sink, tokens=Tokens(SECRET))) as server:
        connected(script, server.url, transport, token=token)
        script.do("channel", key="c", name="c")
        reported = script.wait(on="error", key="c")
        assert reported["code"] in (code, "unauthorized")
        script.wait(on="close", key="c")
        assert "failed" in script.do("cancel", key="c", id="r1")
