"""Several gateways on one Redis: any of them serves any watcher."""

from __future__ import annotations

import anyio
import httpx
import pytest

import tokenwire
from tests.adapters.gateway.support import PATIENCE, chatting, native, serving, watching
from tests.redis_support import RedisServer
from tests.redis_support.fixtures import *  # noqa: F403
from tests.support.needs import needs
from tokenwire.response import Transcript
from tokenwire_adapters.asgi import Gateway, Limits

needs("redis")
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
                        httpx.AsyncClient(base_url=base, timeout=PATIENCE) as client,
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


@pytest.mark.slow
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


async def test_sockets_that_hang_up_while_they_subscribe_leave_no_subscription(
    redis_server: RedisServer,
) -> None:
    with (
        tokenwire.open_sink(redis_server.url) as sink,
        serving(Gateway(sink, limits=Limits(request_burst=10_000))) as server,
    ):
        sink._runtime.hubs._linger = 0.0
        with redis_server.paused():  # so that none of them is open before its client leaves
            for n in range(20):
                async with chatting(server.ws_url) as chat:
                    for k in range(10):
                        await chat.send("subscribe", channel=f"c-{n}-{k}")
        with anyio.fail_after(PATIENCE):
            while sink.stats().channels or redis_server.admin.pubsub_channels("*"):
                await anyio.sleep(0.01)


async def test_a_long_replay_comes_page_by_page(shared_redis: RedisServer) -> None:
    """Whoever leaves in the midst of it goes on from there, and is told once when it is over."""
    with (
        tokenwire.open_sink(shared_redis.url, page_bytes=1) as sink,
        serving(Gateway(sink)) as server,
    ):
        slow = sink.respond("c", response_id="slow")
        slow.write("begun")
        assert sink.flush(PATIENCE)
        for n in range(8):
            with sink.respond("c", response_id=f"r{n}") as response:
                response.write(f"text {n}")
            sink.send_event("c", f"data {n}")
            assert sink.flush(PATIENCE)
        slow.write(" on")  # so that it comes last in a replay
        assert sink.flush(PATIENCE)
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with watching(client, "/channels/c/events?rewind=all") as stream:
                *whole, _ = await stream.until("ready")
            assert len(whole) == 17
            for cut in (1, 5, 12, 16, 17):
                slow.write(f" {cut}")
                transcript, ready = Transcript(native(whole[:cut])), 0
                headers = {"last-event-id": whole[cut - 1].id}
                async with watching(client, "/channels/c/events", headers=headers) as stream:
                    while "slow" not in transcript or not transcript["slow"].text.endswith(
                        f" {cut}"
                    ):
                        event = await stream.next()
                        ready += event.event == "ready"
                        for each in native([event]):
                            transcript.apply(each)
                    ended = {each.id: each.text for each in transcript if each.ended}
                    assert ended == {f"r{n}": f"text {n}" for n in range(8)}
                    while not ready:
                        ready += (await stream.next()).event == "ready"
                    assert ready == 1
        async with chatting(server.ws_url) as chat:
            await chat.ask("subscribe", rewind="all")
            while "c" not in chat.cursors:
                await chat.receive()
            assert len(chat.transcript) == 9
            assert chat.transcript["slow"].text == "begun on 1 5 12 16 17"
        slow.finish()
