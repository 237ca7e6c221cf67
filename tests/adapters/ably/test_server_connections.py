"""The local Ably with Ably's own Python client: connections, credentials, presence, faults."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from ably import AblyException, AblyRest
from ably.types.channeloptions import ChannelOptions
from ably.types.message import Message

from tests.redis_support import eventually_async
from tokenwire_adapters.testing.ably import (
    AblyServer,
    Key,
    Settings,
    Subscriber,
    _limits,
    realtime,
    rest,
)

pytestmark = [
    pytest.mark.anyio,
    # The SDK reads the times of presence messages in the old way.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning"),
]


@pytest.fixture
async def server() -> AsyncIterator[AblyServer]:
    async with AblyServer(settings=Settings(inbound_rate=None)) as running:
        yield running


async def eventually(condition) -> None:
    await eventually_async(condition, "a state of the server, for which there is no event")


async def next_connected(client) -> None:
    async with asyncio.timeout(60):
        await client.connection.once_async("connected")


# -- connection state -------------------------------------------------------------------------


async def test_ping_and_clean_close(server: AblyServer):
    async with realtime(server) as client:
        assert await client.connection.ping() >= 0
        assert len(server.connections) == 1
    await eventually(lambda: not server.connections)


@pytest.mark.parametrize("announced", [False, True], ids=["cut", "announced"])
async def test_a_short_drop_is_resumed_without_loss(server: AblyServer, announced: bool):
    async with realtime(server, "agent") as agent, realtime(server, "watcher") as watcher:
        seen = Subscriber()
        channel = agent.channels.get("ai:x")
        await watcher.channels.get("ai:x").subscribe(seen.take)
        serial = (await channel.publish(Message("m", "a"))).serials[0]
        await channel.append_message(Message(serial=serial, data="b"))
        await seen.until_text(serial, "ab")
        key = watcher.connection.connection_details.connection_key
        before = watcher.connection.connection_manager.connection_id
        back = asyncio.ensure_future(next_connected(watcher))
        assert server.faults.disconnect("watcher", announced=announced) == 1
        for token in "cdef":
            await channel.append_message(Message(serial=serial, data=token))
        await back
        await seen.until_text(serial, "abcdef")
        assert watcher.connection.connection_manager.connection_id == before
        assert watcher.connection.connection_details.connection_key != key  # RTN15e
        assert server.stats["resumes"] == 1
        # After the resume the first append brought the whole text.
        texts = [m.data for m in seen.messages if m.action == 1]
        assert any(text.startswith("abc") for text in texts)


async def test_what_was_missed_while_away_comes_once_and_in_order(server: AblyServer):
    async with realtime(server, "agent") as agent, realtime(server, "watcher") as watcher:
        seen, changes = Subscriber(), []
        reader = watcher.channels.get("ai:x")
        await reader.subscribe(seen.take)
        reader.on("attached", lambda change: changes.append(change.resumed))
        channel = agent.channels.get("ai:x")
        await channel.publish("m", "0")
        await seen.until(lambda subscriber: len(subscriber.messages) == 1)
        server.faults.refuse()
        server.faults.disconnect("watcher")
        for index in range(1, 5):
            await channel.publish("m", str(index))
        assert len(seen.messages) == 1
        server.faults.refuse(False)
        await seen.until(lambda subscriber: len(subscriber.messages) == 5)
        await channel.publish("m", "5")
        await seen.until(lambda subscriber: subscriber.messages[-1].data == "5")
        assert [message.data for message in seen.messages] == list("012345")
        assert changes == [True]


async def test_forgotten_connections_get_a_new_id(server: AblyServer):
    async with realtime(server, "agent") as agent, realtime(server, "watcher") as watcher:
        seen = Subscriber()
        await watcher.channels.get("ai:x").subscribe(seen.take)
        channel = agent.channels.get("ai:x")
        await channel.publish("m", "before")
        await seen.until(lambda subscriber: len(subscriber.messages) == 1)
        before = watcher.connection.connection_manager.connection_id
        both = asyncio.gather(next_connected(agent), next_connected(watcher))
        server.faults.forget_connections()
        await both
        assert watcher.connection.connection_manager.connection_id != before
        assert watcher.connection.error_reason.code == 80008
        await channel.publish("m", "after")
        await seen.until(lambda subscriber: len(subscriber.messages) == 2)
        assert [m.data for m in seen.messages] == ["before", "after"]


async def test_lost_continuity_is_announced(server: AblyServer):
    async with realtime(server, "agent") as agent, realtime(server, "watcher") as watcher:
        seen, changes = Subscriber(), []
        channel = watcher.channels.get("ai:x")
        await channel.subscribe(seen.take)
        channel.on(lambda change: changes.append((str(change.current), change.resumed)))
        await agent.channels.get("ai:x").publish("m", "before")
        await seen.until(lambda subscriber: len(subscriber.messages) == 1)
        both = asyncio.gather(next_connected(agent), next_connected(watcher))
        server.faults.forget_connections(continuity=False)
        await both
        await eventually(lambda: channel.state == "attached")
        await agent.channels.get("ai:x").publish("m", "after")
        await seen.until(lambda subscriber: len(subscriber.messages) == 2)
        assert ("ChannelState.ATTACHED", False) in changes or ("attached", False) in changes


async def test_another_attached_message_means_loss(server: AblyServer):
    async with realtime(server) as client:
        channel = client.channels.get("ai:x")
        await channel.attach()
        update = asyncio.ensure_future(channel.once_async("update"))
        await asyncio.sleep(0)
        server.faults.reattach("ai:x")
        change = await asyncio.wait_for(update, 60)
        assert (change.resumed, change.reason.code) == (False, 90003)


async def test_a_stale_key_is_refused_after_the_state_expired(server: AblyServer):
    server.settings.connection_state_ttl = 0.05
    async with realtime(server) as client:
        server.faults.refuse()
        server.faults.disconnect()
        await eventually(lambda: not server.connections)
        back = asyncio.ensure_future(next_connected(client))
        server.faults.refuse(False)
        await back
        assert server.stats["resumes_refused"] == 1


async def test_what_was_not_acknowledged_is_sent_again_and_published_once(server: AblyServer):
    """RTN19a: the client sends again what it has no answer to; the service ignores repeats."""
    async with realtime(server) as client:
        channel = client.channels.get("ai:x")
        server.faults.hold_acks()
        publishes = [asyncio.ensure_future(channel.publish("m", str(i))) for i in range(5)]
        await eventually(lambda: server.stats["published"] == 5)
        back = asyncio.ensure_future(next_connected(client))
        server.faults.disconnect()
        server.faults.hold_acks(False)
        await back
        results = await asyncio.wait_for(asyncio.gather(*publishes), 60)
        messages = server.channels["ai:x"].messages
        assert sorted(m.latest.data for m in messages.values()) == list("01234")
        assert {r.serials[0] for r in results} == set(messages)
        assert server.stats["repeats_ignored"] >= 5


async def test_the_server_goes_and_comes_back(server: AblyServer):
    # A refused connection is noticed only when this timeout ends it.
    async with realtime(server, "agent", realtime_request_timeout=500) as agent:
        channel = agent.channels.get("ai:x")
        await channel.publish("m", "a")
        gone = asyncio.ensure_future(agent.connection.once_async("disconnected"))
        await server.vanish()
        # Until it notices, the client raises the error of its socket from publish.
        await asyncio.wait_for(gone, 60)
        waiting = asyncio.ensure_future(channel.publish("m", "b"))
        back = asyncio.ensure_future(next_connected(agent))
        await server.listen()
        await back
        await asyncio.wait_for(waiting, 60)
        assert [m.latest.data for m in server.channels["ai:x"].messages.values()] == ["a", "b"]


# -- faults -----------------------------------------------------------------------------------


async def test_one_publish_in_ten_is_refused(server: AblyServer):
    async with realtime(server) as client:
        channel = client.channels.get("ai:x")
        server.faults.nack_every(10)
        results = await asyncio.gather(
            *(channel.publish("m", str(index)) for index in range(50)), return_exceptions=True
        )
        errors = [index for index, result in enumerate(results) if isinstance(result, Exception)]
        assert errors == [9, 19, 29, 39, 49]
        assert len(server.channels["ai:x"].messages) == 45


async def test_the_rate_limit_refuses_what_is_over_it(
    server: AblyServer, monkeypatch: pytest.MonkeyPatch
):
    # Time stands still for the limit: all is published within one second.
    monkeypatch.setattr(_limits, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    server.settings.inbound_rate = 50.0
    async with realtime(server) as client:
        channel = client.channels.get("ai:x")
        results = await asyncio.gather(
            *(channel.publish("m", str(index)) for index in range(80)), return_exceptions=True
        )
        errors = [result for result in results if isinstance(result, AblyException)]
        assert len(errors) == 30
        assert {(error.code, error.status_code) for error in errors} == {(42911, 429)}
        assert len(server.channels["ai:x"].messages) == 80 - len(errors)


async def test_appends_count_as_rolled_up(server: AblyServer):
    server.settings.inbound_rate = 50.0
    async with realtime(server) as client:
        channel = client.channels.get("ai:x")
        serial = (await channel.publish(Message("m", ""))).serials[0]
        appends = (channel.append_message(Message(serial=serial, data="t")) for _ in range(500))
        await asyncio.gather(*appends)
        assert server.channels["ai:x"].messages[serial].latest.data == "t" * 500
        assert server.stats["published"] < 50


async def test_a_runaway_publisher_is_disconnected(server: AblyServer):
    server.settings.inbound_rate = 2.0
    async with realtime(server) as client:
        channel = client.channels.get("ai:x")
        back = asyncio.ensure_future(next_connected(client))
        publishes = [asyncio.ensure_future(channel.publish("m", "x")) for _ in range(60)]
        await back
        assert server.stats["connects"] >= 2
        # After a DISCONNECTED this SDK sends nothing again until it thinks the new transport
        # idle, some 25 s later, so there is nothing to wait for here.
        for publish in publishes:
            publish.cancel()
        await asyncio.gather(*publishes, return_exceptions=True)


async def test_lost_frames(server: AblyServer):
    async with realtime(server, "agent") as agent, realtime(server, "watcher") as watcher:
        seen = Subscriber()
        await watcher.channels.get("ai:x").subscribe(seen.take)
        channel = agent.channels.get("ai:x")
        server.faults.drop_frames(1, "out", "MESSAGE")
        server.faults.drop_frames(1, "in", "HEARTBEAT")
        await channel.publish("m", "lost")
        await channel.publish("m", "kept")
        await seen.until(lambda subscriber: subscriber.messages)
        assert [m.data for m in seen.messages] == ["kept"]
        assert server.stats["frames_dropped"] == 1


async def test_silence_then_everything(server: AblyServer):
    async with realtime(server, "agent") as agent:
        channel = agent.channels.get("ai:x")
        server.faults.stall()
        publish = asyncio.ensure_future(channel.publish("m", "a"))
        done, _ = await asyncio.wait([publish], timeout=0.05)
        assert not done
        server.faults.stall(False)
        await asyncio.wait_for(publish, 60)


async def test_late_answers(server: AblyServer):
    async with realtime(server) as client:
        server.faults.delay_acks(0.05)
        started = asyncio.get_running_loop().time()
        await client.channels.get("ai:x").publish("m", "a")
        assert asyncio.get_running_loop().time() - started >= 0.05


async def test_cut_again_and_again_loses_nothing(server: AblyServer):
    async with realtime(server, "agent") as agent, realtime(server, "watcher") as watcher:
        seen = Subscriber()
        await watcher.channels.get("ai:x").subscribe(seen.take)
        channel = agent.channels.get("ai:x")
        serial = (await channel.publish(Message("m", ""))).serials[0]
        server.faults.disconnect_every(0.05, "watcher")
        for index in range(30):
            async with asyncio.timeout(60):
                await channel.append_message(Message(serial=serial, data=f"{index} "))
        server.faults.disconnect_every(0)
        await seen.until_text(serial, "".join(f"{index} " for index in range(30)))
        assert server.stats["resumes"] >= 1


async def test_channels_end_from_the_servers_side(server: AblyServer):
    async with realtime(server) as client:
        channel = client.channels.get("ai:x")
        await channel.attach()
        again = asyncio.ensure_future(channel.once_async("attached"))
        await asyncio.sleep(0)
        server.faults.detach("ai:x")  # RTL13a: the client attaches again
        await asyncio.wait_for(again, 60)
        failed = asyncio.ensure_future(channel.once_async("failed"))
        await asyncio.sleep(0)
        server.faults.fail_channel("ai:x")
        assert (await asyncio.wait_for(failed, 60)).reason.code == 90000


async def test_rest_fails_on_command(server: AblyServer):
    async with rest(server) as client:
        server.faults.rest_fail_next(1, 50003, 500)
        with pytest.raises(AblyException) as error:
            await client.channels.get("ai:x").history()
        assert (error.value.code, error.value.status_code) == (50003, 500)
        assert (await client.channels.get("ai:x").history()).items == []


# -- credentials ------------------------------------------------------------------------------


async def test_wrong_credentials_fail_the_connection(server: AblyServer):
    for token, code in (("app.nonsense", 40143), ("a.b.c", 40144)):
        callback_calls = []

        async def again(params, token=token, calls=callback_calls):
            calls.append(params)
            return token

        async with realtime(server, token=token) as client:
            assert client.connection.state in {"failed", "disconnected"}
            assert client.connection.error_reason.code in {code, 40171, 80019}


async def test_keys_over_rest(server: AblyServer):
    url = f"http://127.0.0.1:{server.port}/channels/ai%3Ax/messages"
    async with httpx.AsyncClient(timeout=60) as http:
        for key, status, code in (
            (server.key.full, 200, None),
            ("app.key:wrong", 401, "40101"),
            ("app.other:secret", 404, "40400"),
            ("nonsense:secret", 400, "40005"),
        ):
            answer = await http.get(url, auth=tuple(key.split(":")))
            assert (answer.status_code, answer.headers.get("X-Ably-Errorcode")) == (status, code)
        server.key.revoked = True
        answer = await http.get(url, auth=tuple(server.key.full.split(":")))
        assert answer.json()["error"]["code"] == 40131
        assert (await http.get(url)).json()["error"]["code"] == 40101


async def test_capabilities_are_enforced(server: AblyServer):
    token = server.token("me", **{"ai:*": ["subscribe", "publish"], "own": ["*"]})
    async with realtime(server, token=token) as client:
        with pytest.raises(AblyException) as error:
            await client.channels.get("other").attach()
        assert (error.value.code, error.value.status_code) == (40160, 401)
        channel = client.channels.get("ai:x")
        serial = (await channel.publish(Message("m", "a"))).serials[0]
        with pytest.raises(AblyException) as error:
            await channel.append_message(Message(serial=serial, data="b"))
        assert error.value.code == 40160
        await client.channels.get("own").publish("m", "a")
    async with AblyRest(endpoint="127.0.0.1", port=server.port, tls=False, token=token) as http:
        with pytest.raises(AblyException) as error:
            await http.channels.get("ai:x").history()
        assert error.value.code == 40160


async def test_own_messages_need_a_client_id(server: AblyServer):
    own = {"*": ["publish", "subscribe", "message-update-own"]}
    async with (
        realtime(server, token=server.token("me", **own)) as me,
        realtime(server, token=server.token("you", **own)) as you,
        realtime(server, token=server.token(None, **own)) as nobody,
    ):
        serial = (await me.channels.get("ai:x").publish(Message("m", "a"))).serials[0]
        await me.channels.get("ai:x").append_message(Message(serial=serial, data="b"))
        for client, code in ((you, 40160), (nobody, 40166)):
            with pytest.raises(AblyException) as error:
                await client.channels.get("ai:x").append_message(Message(serial=serial, data="c"))
            assert error.value.code == code


async def test_token_requests_and_expiry(server: AblyServer):
    key = server.key
    requests: list[int] = []
    async with AblyRest(key=key.full, endpoint="127.0.0.1", port=server.port, tls=False,
                        use_token_auth=True) as issuer:  # fmt: skip

        async def callback(params):
            requests.append(1)
            capability = {"ai:*": ["*"]}
            details = await issuer.auth.request_token({"capability": capability, "client_id": "me"})
            assert json.loads(str(details.capability)) == capability
            return details

        async with realtime(server, token=None, auth_callback=callback) as client:
            channel = client.channels.get("ai:x")
            await channel.publish("m", "a")
            back = asyncio.ensure_future(next_connected(client))
            server.faults.expire_tokens()
            await back
            await channel.publish("m", "b")
            assert len(requests) == 2
            assert {m.client_id for m in server.channels["ai:x"].messages.values()} == {"me"}


async def test_jwt(server: AblyServer):
    def part(value: object) -> str:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    key = server.key
    now = int(time.time())
    head = part({"typ": "JWT", "alg": "HS256", "kid": key.name})
    claims = part({"iat": now, "exp": now + 60, "x-ably-clientId": "me",
                   "x-ably-capability": json.dumps({"ai:*": ["*"]})})  # fmt: skip
    mac = hmac.digest(key.secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256)
    async with realtime(server, token=f"{head}.{claims}.{part(mac)}") as client:
        await client.channels.get("ai:x").publish("m", "a")
        with pytest.raises(AblyException):
            await client.channels.get("other").publish("m", "a")
    async with realtime(server, token=f"{head}.{claims}.{part(b'wrong')}") as client:
        assert client.connection.state != "connected"


async def test_several_keys():
    reader = Key("app.reader", "s2", {"*": ["subscribe", "history"]})
    async with AblyServer(Key(), reader) as server:
        details = server.auth.issue("app.reader", client_id="r")
        async with realtime(server, token=details["token"]) as client:
            await client.channels.get("ai:x").attach()
            with pytest.raises(AblyException) as error:
                await client.channels.get("ai:x").publish("m", "a")
            assert error.value.code == 40160


# -- presence ---------------------------------------------------------------------------------


async def test_presence_enter_update_leave_and_sync(server: AblyServer):
    async with realtime(server, "agent") as agent, realtime(server, "watcher") as watcher:
        events: list[tuple[int, str, object]] = []
        presence = agent.channels.get("ai:x").presence
        await presence.enter({"state": "thinking"})
        theirs = watcher.channels.get("ai:x").presence
        await theirs.subscribe(
            lambda event: events.append((event.action, event.client_id, event.data))
        )
        members = await theirs.get()  # by way of the sync
        assert [(m.client_id, m.data) for m in members] == [("agent", {"state": "thinking"})]
        await presence.update("typing")
        await presence.leave()
        await eventually(lambda: len(events) >= 3)
        assert [(action, who) for action, who, _ in events][-2:] == [(4, "agent"), (3, "agent")]
        assert await theirs.get() == []
        async with rest(server) as http:
            past = await http.channels.get("ai:x").presence.history(direction="forwards")
            assert [event.action for event in past.items] == [2, 4, 3]


async def test_members_leave_some_time_after_a_drop(server: AblyServer):
    server.settings.presence_grace = 0.05
    async with realtime(server, "agent", disconnected_retry_timeout=60_000) as agent:
        await agent.channels.get("ai:x").presence.enter()
        channel = server.channels["ai:x"]
        assert len(channel.members) == 1
        server.faults.refuse()
        server.faults.disconnect("agent")
        await eventually(lambda: not channel.members)
        server.faults.refuse(False)


async def test_rewind_is_not_repeated_on_resume(server: AblyServer):
    async with realtime(server, "agent") as agent, realtime(server, "watcher") as watcher:
        channel = agent.channels.get("ai:x")
        await channel.publish("m", "a")
        seen = Subscriber()
        options = ChannelOptions(params={"rewind": "2m"})
        await watcher.channels.get("ai:x", options).subscribe(seen.take)
        await seen.until(lambda subscriber: subscriber.messages)
        back = asyncio.ensure_future(next_connected(watcher))
        server.faults.disconnect("watcher")
        await back
        await channel.publish("m", "b")
        await seen.until(lambda subscriber: subscriber.messages[-1].data == "b")
        assert [m.data for m in seen.messages] == ["a", "b"]
