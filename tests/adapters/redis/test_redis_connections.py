"""Names, connections, ready clients, forks, and servers of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
import redis.asyncio

from tests.adapters.redis.support import (
    PATIENCE,
    RecordingReceiver,
    kept_in,
    make_delta,
    make_entry,
    make_start,
    publish,
)
from tests.redis_support import RedisServer, eventually, eventually_async
from tests.support.forking import forked
from tokenwire import open_sink
from tokenwire.backend import Entry, Lease, ReplayFrom
from tokenwire.errors import (
    BackendUnavailable,
)
from tokenwire.events import (
    CancelEvent,
    EndEvent,
)
from tokenwire.response import Transcript
from tokenwire_adapters.redis import RedisBackend

pytestmark = pytest.mark.redis


# -- names, connections, clients, forks


@pytest.mark.parametrize("name", ["}", "{", "{}", "a}b", "%7D", "a b", "東京 🙂", "x" * 256])
async def test_any_channel_name(backend, name):
    await publish(backend, make_entry(0, make_start(), channel=name))
    assert set(await kept_in(backend, name)) == {"r"}
    assert await kept_in(backend, "%7B") == {}


async def test_connections_do_not_grow(shared_redis):
    backend = RedisBackend(shared_redis.url)
    receivers = [RecordingReceiver() for _ in range(300)]
    subscriptions = [
        await backend.subscribe(f"c{n}", receiver) for n, receiver in enumerate(receivers)
    ]
    await asyncio.gather(*(backend.replay(f"c{n}", ReplayFrom()) for n in range(300)))
    await publish(backend, *(make_entry(0, make_start(), channel=f"c{n}") for n in range(300)))
    for receiver in receivers:
        await receiver.until(1)
    mine = [c for c in shared_redis.cli("CLIENT LIST") if c["user"] == "default"]
    assert len(mine) == 3
    for subscription in subscriptions:
        await subscription.close()
    names = "tokenwire:*"
    eventually(lambda: not shared_redis.cli("PUBSUB", "CHANNELS", names), "all to be unsubscribed")
    (node,) = backend._topology.nodes
    await eventually_async(lambda: not node.pubsub._unsubscribing, "their names to be forgotten")
    await backend.close()


async def test_closing_while_it_connects_leaves_no_connection(shared_redis):
    for turns in range(12):  # so many steps of the loop after it began
        backend = RedisBackend(shared_redis.url)
        reading = asyncio.ensure_future(backend.history("c", limit=1))
        for _ in range(turns):
            await asyncio.sleep(0)
        await backend.close()
        with contextlib.suppress(BackendUnavailable):
            await reading
        await eventually_async(
            lambda: not [c for c in shared_redis.cli("CLIENT LIST") if c["user"] == "default"],
            "its connection to be closed",
        )


async def test_a_closed_subscription_hears_nothing(backend, shared_redis):
    first, second = RecordingReceiver(), RecordingReceiver()
    subscription = await backend.subscribe("c", first)
    await backend.subscribe("c", second)
    await subscription.close()
    await publish(backend, make_entry(0, make_start()))
    await second.until(1)
    assert not first.events
    again = RecordingReceiver()
    await backend.subscribe("c", again)
    await publish(backend, make_entry(1, make_delta(0, "x")))
    await again.until(1)
    assert again.events[0].type == "delta"


async def test_a_ready_client(shared_redis):
    client = redis.asyncio.Redis.from_url(shared_redis.url, decode_responses=True)
    await client.ping()  # it belongs to this loop now
    sink = open_sink(RedisBackend(client=client, prefix="mine"))
    with sink.respond("c", response_id="r") as response:
        response.write("hello")
    await asyncio.to_thread(response.wait, PATIENCE)
    page = await sink.ahistory("c")
    assert page.items[0].text == "hello"
    await sink.aclose()
    assert await client.exists("mine:{c}") == 1  # not closed by us
    await client.aclose()


@pytest.mark.parametrize("url", [None, "redis://localhost"])
def test_a_url_or_a_client(url):
    with pytest.raises(ValueError, match="one of them"):
        RedisBackend(url, client=redis.asyncio.Redis() if url else None)
    with pytest.raises(ValueError, match=r"redis\.asyncio"):
        RedisBackend(client=object())


def test_after_a_fork(shared_redis):
    with open_sink(shared_redis.url) as sink:
        watch = sink.watch("c").open()
        response = sink.respond("c", response_id="parent")
        response.write("before ")
        assert sink.flush(PATIENCE)

        def child():
            with sink.respond("c", response_id="child") as mine:
                mine.write("from the child")
            return 0 if mine.wait(PATIENCE).status == "delivered" else 2

        assert forked(child) == 0
        response.write("and after")
        response.finish()
        assert response.wait(PATIENCE).status == "delivered"
        kept = {kept.id: kept.text for kept in sink.history("c").items}
        assert kept == {"parent": "before and after", "child": "from the child"}
        seen = Transcript()
        for event in watch:
            seen.apply(event)
            if event.type == "end" and event.response_id == "parent":
                break
        assert seen["child"].text == "from the child"


def test_many_threads_write_through_one_connection(shared_redis):
    with open_sink(shared_redis.url) as sink:

        def work(number):
            with sink.respond(f"c{number % 5}", response_id=f"r{number}") as response:
                for token in range(50):
                    response.write(f"{token} ")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sink.flush(PATIENCE)
        text = "".join(f"{token} " for token in range(50))
        for channel in range(5):
            assert {kept.text for kept in sink.history(f"c{channel}").items} == {text}


async def test_check_tells_what_is_there(backend, shared_redis):
    report = await backend.check()
    assert report["server"] in ("redis", "valkey")
    assert report["version"]
    assert shared_redis.cli("DBSIZE") == 0


async def test_nothing_listens_there():
    backend = RedisBackend("redis://:secret-word@127.0.0.1:1/0", timeout=0.3)
    for call in (
        backend.publish([make_entry(0, make_start())]),
        backend.replay("c", ReplayFrom()),
        backend.history("c", limit=1),
        backend.reap("c"),
        backend.renew([Lease("c", "r", "f", 1.0)]),
        backend.check(),
    ):
        with pytest.raises(BackendUnavailable) as caught:
            await call
        assert "127.0.0.1:1" in str(caught.value)
        assert "secret-word" not in str(caught.value)
    assert "secret-word" not in repr(backend)
    await backend.close()


async def test_every_server_that_is_here(each_redis_binary):
    with RedisServer(binary=each_redis_binary) as server:
        backend = RedisBackend(server.url)
        receiver = RecordingReceiver()
        await backend.subscribe("c", receiver)
        await publish(
            backend,
            make_entry(0, make_start(), make_delta(0, "hé")),
            make_entry(1, make_delta(2, "llo")),
        )
        cancel = CancelEvent(response_id="r")
        await publish(backend, Entry(channel="c", events=(cancel,), key="k"))
        await publish(backend, make_entry(2, EndEvent(response_id="r", state="complete")))
        await receiver.until(5)
        assert (await kept_in(backend))["r"].text == "héllo"
        for start in (ReplayFrom(all=True), ReplayFrom(count=1), ReplayFrom(since=0)):
            assert (await backend.replay("c", start)).events
        await publish(backend, make_entry(0, make_start("dead"), response_id="dead", lease=0.01))
        await asyncio.sleep(0.02)
        assert await backend.reap("c") == 1
        assert (await kept_in(backend))["dead"].state == "abandoned"
        await backend.close()
