"""The local Ably with Ably's own Python client: messages, versions, history, rewind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from ably import AblyException
from ably.types.channeloptions import ChannelOptions
from ably.types.message import Message, MessageAction
from ably.types.operations import MessageOperation

from tokenwire_adapters.testing.ably import AblyServer, Settings, Subscriber, realtime, rest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[AblyServer]:
    async with AblyServer() as running:
        yield running


@pytest.fixture(params=[True, False], ids=["msgpack", "json"])
def binary(request: pytest.FixtureRequest) -> bool:
    return request.param


async def create(channel, data="", **extra) -> str:
    result = await channel.publish(Message("response", data, **extra))
    return result.serials[0]


async def test_publish_reaches_a_subscriber_with_every_field(server: AblyServer, binary: bool):
    sent = Message("say", {"a": [1, 2]}, extras={"headers": {"responseId": "r1"}})
    async with (
        realtime(server, "agent", use_binary_protocol=binary) as agent,
        realtime(server, "watcher", use_binary_protocol=binary) as watcher,
    ):
        seen = Subscriber()
        await watcher.channels.get("ai:x").subscribe(seen.take)
        result = await agent.channels.get("ai:x").publish(sent)
        await seen.until(lambda subscriber: subscriber.messages)
        (got,) = seen.messages
        assert (got.name, got.data, got.extras) == (sent.name, sent.data, sent.extras)
        assert got.client_id == "agent"
        assert got.connection_id == agent.connection.connection_manager.connection_id
        assert [got.serial] == result.serials
        assert got.action is MessageAction.MESSAGE_CREATE
        assert got.version.serial == got.serial  # TM2s1


async def test_bytes_and_text_cross_between_the_encodings(server: AblyServer):
    async with (
        realtime(server, "agent", use_binary_protocol=True) as agent,
        realtime(server, "watcher", use_binary_protocol=False) as watcher,
    ):
        seen = Subscriber()
        await watcher.channels.get("ai:x").subscribe(seen.take)
        channel = agent.channels.get("ai:x")
        for data in (b"\x00\xff", " naïve 🙂", None):
            await channel.publish("m", data)
        await seen.until(lambda subscriber: len(subscriber.messages) == 3)
        assert [message.data for message in seen.messages] == [b"\x00\xff", " naïve 🙂", None]
        await watcher.channels.get("ai:x").publish("back", b"\x01\x02")
        await seen.until(lambda subscriber: len(subscriber.messages) == 4)
        assert seen.messages[-1].data == b"\x01\x02"


async def test_appends_arrive_as_documented(server: AblyServer, binary: bool):
    """Create, then one full update, then increments; appends of one window come together."""
    async with (
        realtime(server, "agent", transport_params={"echo": "false"}) as agent,
        realtime(server, "watcher", use_binary_protocol=binary) as watcher,
    ):
        seen = Subscriber()
        await watcher.channels.get("ai:x").subscribe(seen.take)
        channel = agent.channels.get("ai:x")
        serial = await create(channel, "a")
        tokens = [f" t{index}" for index in range(100)]
        results = await asyncio.gather(
            *(channel.append_message(Message(serial=serial, data=token)) for token in tokens)
        )
        whole = "a" + "".join(tokens)
        await seen.until_text(serial, whole)
        assert seen.actions[:3] == ["create", "update", "append"]
        assert set(seen.actions[3:]) <= {"append"}
        assert len(seen.actions) < 20, "appends within the rollup window go out together"
        versions = [message.version.serial for message in seen.messages]
        assert versions == sorted(versions)
        # UDR2a: what was superseded before it was published has no version of its own.
        assert {r.version_serial for r in results} - {None} == set(versions[1:])
        page = await (await anew(server)).channels.get("ai:x").history()
        assert [(m.action, m.data) for m in page.items] == [(MessageAction.MESSAGE_UPDATE, whole)]


async def anew(server: AblyServer):
    # REST clients hold no connection here once the test's loop ends; closing is in the fixture.
    client = rest(server)
    _open.append(client)
    return await client.__aenter__()


_open: list = []


@pytest.fixture(autouse=True)
async def _close_rest() -> AsyncIterator[None]:
    yield
    while _open:
        await _open.pop().__aexit__(None, None, None)


async def test_rollup_window_zero_publishes_each_append(server: AblyServer):
    server.settings.inbound_rate = None
    params = {"appendRollupWindow": "0", "echo": "false"}
    async with (
        realtime(server, "agent", transport_params=params) as agent,
        realtime(server, "watcher") as watcher,
    ):
        seen = Subscriber()
        await watcher.channels.get("ai:x").subscribe(seen.take)
        channel = agent.channels.get("ai:x")
        serial = await create(channel)
        appends = [channel.append_message(Message(serial=serial, data="t")) for _ in range(60)]
        await asyncio.gather(*appends)
        await seen.until_text(serial, "t" * 60)
        assert seen.actions == ["create", "update", *["append"] * 59]


async def test_a_window_out_of_range_is_refused(server: AblyServer):
    async with realtime(server, transport_params={"appendRollupWindow": "501"}) as agent:
        assert agent.connection.state == "failed"
        assert agent.connection.error_reason.code == 40003


async def test_append_mode_full_sends_updates_only(server: AblyServer):
    async with realtime(server) as agent, realtime(server, "watcher") as watcher:
        seen = Subscriber()
        options = ChannelOptions(params={"appendMode": "full"})
        await watcher.channels.get("ai:x", options).subscribe(seen.take)
        channel = agent.channels.get("ai:x")
        serial = await create(channel, "a")
        for token in "bcd":
            await channel.append_message(Message(serial=serial, data=token))
        await seen.until_text(serial, "abcd")
        assert seen.actions == ["create", "update", "update", "update"]


async def test_first_append_can_be_an_increment_where_the_message_was_seen(server: AblyServer):
    server.settings.first_append = "if-unseen"
    async with (
        realtime(server) as agent,
        realtime(server, "early") as early,
        realtime(server, "late") as late,
    ):
        first, second = Subscriber(), Subscriber()
        await early.channels.get("ai:x").subscribe(first.take)
        channel = agent.channels.get("ai:x")
        serial = await create(channel, "a")
        await late.channels.get("ai:x").subscribe(second.take)
        for token in "bc":
            await channel.append_message(Message(serial=serial, data=token))
        await first.until_text(serial, "abc")
        await second.until_text(serial, "abc")
        assert first.actions == ["create", "append", "append"]
        assert second.actions == ["update", "append"]


async def test_extras_follow_the_documented_rules(server: AblyServer):
    """An append without extras removes them; an update without extras leaves them."""
    async with realtime(server) as agent:
        channel = agent.channels.get("ai:x")
        serial = await create(channel, "a", extras={"headers": {"responseId": "r"}})
        await channel.update_message(Message(serial=serial, data="b"))
        client = (await anew(server)).channels.get("ai:x")
        assert (await client.get_message(serial)).extras == {"headers": {"responseId": "r"}}
        kept = {"headers": {"responseId": "r", "status": "streaming"}}
        await channel.append_message(Message(serial=serial, data="c", extras=kept))
        assert (await client.get_message(serial)).extras == kept
        await channel.append_message(Message(serial=serial, data="d"))
        last = await client.get_message(serial)
        assert (last.data, last.extras, last.name) == ("bcd", None, "response")
        server.settings.append_keeps_extras = True
        await channel.append_message(Message(serial=serial, data="e", extras=kept))
        await channel.append_message(Message(serial=serial, data="f"))
        assert (await client.get_message(serial)).extras == kept


async def test_update_delete_and_versions(server: AblyServer):
    async with realtime(server) as agent:
        channel = agent.channels.get("ai:x")
        serial = await create(channel, "one")
        why = MessageOperation(description="typo", metadata={"k": "v"})
        await channel.update_message(Message(serial=serial, data="two"), why)
        await channel.append_message(Message(serial=serial, data="!"))
        await channel.delete_message(Message(serial=serial))
        client = (await anew(server)).channels.get("ai:x")
        latest = await client.get_message(serial)
        assert (latest.action, latest.data) == (MessageAction.MESSAGE_DELETE, "two!")
        versions = (await client.get_message_versions(serial)).items
        # Appends are not kept as versions.
        assert [version.data for version in versions] == ["one", "two", "two!"]
        assert versions[1].version.description == "typo"
        assert versions[1].version.metadata == {"k": "v"}
        assert versions[1].version.client_id == "agent"
        assert [v.version.serial for v in versions] == sorted(v.version.serial for v in versions)


async def test_rest_publishes_updates_and_appends(server: AblyServer, binary: bool):
    async with rest(server, use_binary_protocol=binary) as client:
        channel = client.channels.get("ai:x")
        serials = (await channel.publish([Message("m", "a"), Message("m", b"b")])).serials
        result = await channel.append_message(Message(serial=serials[0], data="c"))
        assert result.version_serial > serials[0]
        await channel.update_message(Message(serial=serials[1], data=b"d"))
        page = await channel.history(direction="forwards")
        assert [message.data for message in page.items] == ["ac", b"d"]


async def test_repeated_message_ids_publish_once(server: AblyServer):
    async with realtime(server) as agent, rest(server) as client:
        channel = agent.channels.get("ai:x")
        first = await channel.publish(Message("m", "a", id="base:0"))
        again = await channel.publish(Message("m", "a", id="base:0"))
        other = await client.channels.get("ai:x").publish(Message("m", "a", id="base:0"))
        assert first.serials == again.serials == other.serials
        with pytest.raises(AblyException) as error:
            await channel.publish([Message("m", "a", id="x:0"), Message("m", "b", id="y:1")])
        assert error.value.code == 40031


async def test_history_pages_do_not_shift(server: AblyServer):
    server.settings.inbound_rate = None
    async with realtime(server) as agent, rest(server) as client:
        channel = agent.channels.get("ai:x")
        for index in range(25):
            await channel.publish("m", str(index))
        page = await client.channels.get("ai:x").history(limit=10)
        seen = [message.data for message in page.items]
        await channel.publish("m", "new")
        while page.has_next():
            page = await page.next()
            seen += [message.data for message in page.items]
        assert seen == [str(index) for index in range(24, -1, -1)]
        forwards = await client.channels.get("ai:x").history(direction="forwards", limit=3)
        assert [message.data for message in forwards.items] == ["0", "1", "2"]


async def test_history_between_times(server: AblyServer):
    async with realtime(server) as agent, rest(server) as client:
        channel = agent.channels.get("ai:x")
        await channel.publish("m", "a")
        middle = await client.time()
        server.channels["ai:x"].messages[next(iter(server.channels["ai:x"].messages))].timestamp = (
            int(middle) - 5000
        )
        await channel.publish("m", "b")
        reader = client.channels.get("ai:x")
        recent = await reader.history(start=int(middle) - 1000)
        old = await reader.history(end=int(middle) - 1000)
        assert [m.data for m in recent.items] == ["b"]
        assert [m.data for m in old.items] == ["a"]


@pytest.mark.parametrize("rewind", ["2m", "2"])
async def test_rewind_then_live(server: AblyServer, rewind: str):
    async with realtime(server) as agent, realtime(server, "late") as late:
        channel = agent.channels.get("ai:x")
        old = await create(channel, "done")
        serial = await create(channel, "a")
        await channel.append_message(Message(serial=serial, data="b"))
        seen = Subscriber()
        options = ChannelOptions(params={"rewind": rewind})
        await late.channels.get("ai:x", options).subscribe(seen.take)
        await seen.until(lambda subscriber: len(subscriber.messages) == 2)
        # What was aggregated comes as an update with the whole text.
        assert seen.actions == ["create", "update"]
        await channel.append_message(Message(serial=serial, data="c"))
        await channel.append_message(Message(serial=serial, data="d"))
        await seen.until_text(serial, "abcd")
        assert seen.texts[old] == "done"
        assert seen.actions[2:] == ["update", "append"]


async def test_rewind_counts_and_limits(server: AblyServer):
    server.settings.inbound_rate = None
    async with realtime(server) as agent, realtime(server, "late") as late:
        channel = agent.channels.get("ai:x")
        for index in range(120):
            await channel.publish("m", str(index))
        for name, rewind, count in (("ai:x", "3", 3), ("ai:x", "2m", 100)):
            async with realtime(server, "other") as other:
                seen = Subscriber()
                options = ChannelOptions(params={"rewind": rewind})
                await other.channels.get(name, options).subscribe(seen.take)
                await seen.until(lambda subscriber, n=count: len(subscriber.messages) == n)
                assert seen.messages[-1].data == "119"
        bad = late.channels.get("ai:x", ChannelOptions(params={"rewind": "soon"}))
        with pytest.raises(AblyException) as error:
            await bad.attach()
        assert error.value.code == 40003


async def test_echo_off(server: AblyServer):
    async with realtime(server, "agent", transport_params={"echo": "false"}) as agent:
        seen = Subscriber()
        channel = agent.channels.get("ai:x")
        await channel.subscribe(seen.take)
        await channel.publish("m", "mine")
        async with realtime(server, "other") as other:
            await other.channels.get("ai:x").publish("m", "yours")
        await seen.until(lambda subscriber: subscriber.messages)
        assert [message.data for message in seen.messages] == ["yours"]


async def test_a_message_too_large_is_refused_whole(server: AblyServer):
    async with realtime(server) as agent:
        channel = agent.channels.get("ai:x")
        serial = await create(channel, "x" * 60_000)
        await channel.append_message(Message(serial=serial, data="y" * 5_000))
        with pytest.raises(AblyException) as error:
            await channel.append_message(Message(serial=serial, data="z" * 5_000))
        assert (error.value.code, error.value.status_code) == (40009, 413)
        message = server.channels["ai:x"].messages[serial]
        assert message.latest.data == "x" * 60_000 + "y" * 5_000


async def test_appends_that_wait_count_towards_the_size(server: AblyServer):
    async with realtime(server) as agent:
        channel = agent.channels.get("ai:x")
        serial = await create(channel)
        results = await asyncio.gather(
            *(channel.append_message(Message(serial=serial, data="y" * 9_000)) for _ in range(10)),
            return_exceptions=True,
        )
        refused = [result for result in results if isinstance(result, AblyException)]
        assert [error.code for error in refused] == [40009] * 3
        assert server.channels["ai:x"].messages[serial].latest.data == "y" * 63_000


async def test_an_append_of_another_type_is_refused(server: AblyServer):
    async with realtime(server) as agent:
        channel = agent.channels.get("ai:x")
        serial = await create(channel, "text")
        with pytest.raises(AblyException) as error:
            await channel.append_message(Message(serial=serial, data=b"bytes"))
        assert error.value.code == 40013
        with pytest.raises(AblyException) as error:
            await channel.append_message(Message(serial="01-0@x:0", data="text"))
        assert error.value.status_code == 404


async def test_updates_need_the_channel_rule():
    async with AblyServer(settings=Settings(mutable=("ai",))) as server, realtime(server) as agent:
        for name, allowed in (("ai:x", True), ("plain", False)):
            channel = agent.channels.get(name)
            serial = await create(channel, "a")
            append = channel.append_message(Message(serial=serial, data="b"))
            if allowed:
                await append
            else:
                with pytest.raises(AblyException) as error:
                    await append
                assert (error.value.code, error.value.status_code) == (93002, 400)


async def test_conflation_and_full_updates_on_command(server: AblyServer):
    server.faults.full_update_every(2)
    params = {"appendRollupWindow": "0"}
    async with (
        realtime(server, transport_params=params) as agent,
        realtime(server, "watcher") as watcher,
    ):
        seen = Subscriber()
        await watcher.channels.get("ai:x").subscribe(seen.take)
        channel = agent.channels.get("ai:x")
        serial = await create(channel)
        for token in "abcdef":
            await channel.append_message(Message(serial=serial, data=token))
        await seen.until_text(serial, "abcdef")
        assert seen.actions.count("update") > 1
        assert seen.actions.count("append") > 1
