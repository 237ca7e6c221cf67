"""One event stream for many channels: `POST /events`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from httpx_sse import aconnect_sse

import tokenwire
from tests.adapters.gateway.support import PATIENCE, SECRET, Clock, Stream, serving
from tokenwire_adapters.asgi import Gateway, Limits, Tokens, mint_token

Message = dict[str, Any]


@contextlib.asynccontextmanager
async def streaming(url: str, *subscriptions: Any, **options: Any) -> AsyncIterator[Stream]:
    body = {"subscriptions": list(subscriptions)}
    async with (
        httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client,
        aconnect_sse(client, "POST", "/events", json=body, **options) as source,
    ):
        assert source.response.status_code == 200, await source.response.aread()
        iterator = source.aiter_sse()
        try:
            yield Stream(iterator, source.response)
        finally:
            await iterator.aclose()


async def message(stream: Stream, **fields: Any) -> Message:
    """The next message that has these fields; keep-alives and others are passed over."""
    while True:
        value: Message = json.loads((await stream.next()).data)
        if all(value.get(name) == wanted for name, wanted in fields.items()):
            return value


async def test_events_of_many_channels_come_in_one_stream(sink: tokenwire.Sink) -> None:
    with serving(Gateway(sink)) as server:
        with sink.respond("a", response_id="old") as response:
            response.write("before")
        sink.flush()
        asked = ({"channel": "a", "rewind": "all"}, {"channel": "b", "sub": "s2"})
        async with streaming(server.url, *asked) as stream:
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            assert json.loads((await stream.next()).data)["op"] == "hello"
            past = await message(stream, op="events", channel="a")
            assert past["events"][0]["response"]["parts"][0]["text"] == "before"
            assert past["cursor"]
            await message(stream, op="events", channel="b", sub="s2")
            with sink.respond("b", response_id="new") as response:
                response.write("live")
            text = ""
            while text != "live":
                live = await message(stream, op="events", channel="b", sub="s2")
                text += "".join(event.get("text", "") for event in live["events"])
        # Where the first one ended, another goes on.
        asked = ({"channel": "a", "after": past["cursor"]}, {"channel": "b"})
        async with streaming(server.url, *asked) as stream:
            assert (await message(stream, op="events", channel="a"))["events"] == []


async def test_more_subscriptions_than_requests_at_a_time(sink: tokenwire.Sink) -> None:
    with serving(Gateway(sink, limits=Limits(pending_per_socket=2))) as server:
        names = [f"c{number}" for number in range(20)]
        async with streaming(server.url, *({"channel": name} for name in names)) as stream:
            joined = [(await message(stream, op="events"))["channel"] for _ in names]
    assert sorted(joined) == sorted(names)


async def test_one_that_is_refused_leaves_the_others(sink: tokenwire.Sink) -> None:
    def authorize(connection: object, channel: str, action: str) -> bool:
        return channel != "secret"

    with serving(Gateway(sink, authorize=authorize)) as server:
        async with streaming(server.url, {"channel": "secret"}, {"channel": "mine"}) as stream:
            answers = {}  # in any order: the two are worked on at a time
            while len(answers) < 2:
                answer = await message(stream)
                if answer["op"] in ("reply", "error"):
                    answers[answer["id"]] = answer
    assert answers[0]["error"]["status"] == 403
    assert answers[1]["op"] == "reply"


async def test_a_response_that_ends_ends_its_subscription(sink: tokenwire.Sink) -> None:
    with serving(Gateway(sink)) as server, sink.respond("c", response_id="r1") as response:
        response.write("x")
        async with streaming(server.url, {"channel": "c", "response": "r1"}) as stream:
            await message(stream, op="events")
            response.finish()
            assert await message(stream, op="end") == {"op": "end", "channel": "c"}


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"subscriptions": []},
        {"subscriptions": "c"},
        {"subscriptions": ["c"]},
        {"subscriptions": [{"channel": 1}]},
        {"subscriptions": [{"channel": "c"}] * 65},
    ],
)
async def test_a_body_that_is_none_is_refused(sink: tokenwire.Sink, body: Any) -> None:
    with serving(Gateway(sink)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            answer = await client.post("/events", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_a_token_is_needed_and_expires(sink: tokenwire.Sink) -> None:
    clock = Clock()
    with serving(Gateway(sink, tokens=Tokens(SECRET, clock=clock))) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            answer = await client.post("/events", json={"subscriptions": [{"channel": "c"}]})
        assert answer.status_code == 401
        capability = {"*": ["*"]}
        token = mint_token(SECRET, subject="u1", capability=capability, lifetime=60, clock=clock)
        headers = {"authorization": f"Bearer {token}"}
        async with streaming(server.url, {"channel": "c"}, headers=headers) as stream:
            await message(stream, op="events")
            clock.now += 61
            assert await message(stream, op="close") == {"op": "close", "code": 4401}
            assert await stream.rest() == []


async def test_a_gateway_that_goes_says_so(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink)
    with serving(gateway) as server:
        async with streaming(server.url, {"channel": "c"}) as stream:
            await message(stream, op="events")
            await gateway.shutdown(PATIENCE)
            assert (await message(stream, op="bye"))["retry"] > 0
            assert (await message(stream, op="close"))["code"] == 1012


async def test_a_client_that_goes_leaves_nothing(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink)
    with serving(gateway) as server:
        async with streaming(server.url, {"channel": "c"}, {"channel": "d"}) as stream:
            await message(stream, op="events")
            assert gateway.connections == 1
        with anyio.fail_after(PATIENCE):
            while gateway.connections:
                await anyio.sleep(0.01)
