"""Several gateways on one Redis: any of them serves any watcher."""

from __future__ import annotations

import anyio
import httpx
import pytest

import tokenwire
from tests.adapters.gateway.support import PATIENCE, chatting, native, serving, watching
from tests.redis_support import RedisServer
from tests.redis_support.fixtures import *  # noqa: F403
from tokenwire.response import Transcript
from tokenwire_adapters.asgi import Gateway

pytest.importorskip("redis")
pytestmark = pytest.mark.redis


async def test_a_watcher_goes_on_at_another_gateway_and_may_cancel_there(
    shared_redis: RedisServer,
) -> None:
    url = shared_redis.url
    with tokenwire.open_sink(url, strict=True) as agent:
        async with Gateway(url) as one, Gateway(url) as two:
            with serving(one) as first, serving(two) as second:
                response = agent.respond("c", response_id="r1")
                response.write("one ")
                transcript, last = Transcript(), ""
                for n in range(6):
                    base = (first, second)[n % 2].url
                    headers = {"last-event-id": last} if last else {}
                    async with (
                        httpx.AsyncClient(base_url=base) as client,
                        watching(
                            client, "/channels/c/events?rewind=all", headers=headers
                        ) as stream,
                    ):
                        response.write(f"{n} ")
                        while not "".join(r.text for r in transcript).endswith(f"{n} "):
                            event = await stream.next()
                            last = event.id or last
                            for one_event in native([event]):
                                transcript.apply(one_event)
                assert transcript["r1"].text == "one 0 1 2 3 4 5 "
                async with chatting(first.ws_url) as chat:
                    await chat.ask("subscribe", after=last)
                    async with httpx.AsyncClient(base_url=second.url, timeout=PATIENCE) as client:
                        outcome = await client.post("/channels/c/responses/r1/cancel")
                        sent = await client.post("/channels/c/inputs", json={"name": "next"})
                    assert outcome.json()["state"] == "cancelled"
                    assert not response.write("more")
                    chat.transcript = transcript
                    while not transcript["r1"].ended:
                        await chat.receive()
                    while chat.cursors["c"] != sent.json()["cursor"]:
                        await chat.receive()
        assert transcript["r1"].text == "one 0 1 2 3 4 5 "


async def test_a_gateway_without_its_redis_says_so_and_recovers(
    redis_server: RedisServer,
) -> None:
    async with Gateway(redis_server.url) as gateway:
        with serving(gateway) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                assert (await client.get("/readyz")).status_code == 200
                redis_server.stop()
                with anyio.fail_after(PATIENCE):
                    while (await client.get("/readyz")).status_code == 200:
                        await anyio.sleep(0.1)
                answer = await client.get("/channels/c/responses")
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert (await client.get("/channels/c/events")).status_code == 503
                assert (await client.get("/healthz")).status_code == 200
                redis_server.start()
                with anyio.fail_after(PATIENCE):
                    while (await client.get("/readyz")).status_code != 200:
                        await anyio.sleep(0.1)
                assert (await client.get("/channels/c/responses")).status_code == 200
