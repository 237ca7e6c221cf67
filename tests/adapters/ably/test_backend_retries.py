"""What is sent again after a refusal, in which order, and what is counted against Ably's limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.adapters.ably.places import backend, sink
from tokenwire.errors import BackendUnavailable
from tokenwire.events import Event, ends_response
from tokenwire.response import Transcript
from tokenwire.testing import read_until
from tokenwire_adapters._backends.ably import rate_limit, subscription
from tokenwire_adapters._backends.ably.ownership import Ownership
from tokenwire_adapters._backends.ably.wire import ChannelMessage, from_ably
from tokenwire_adapters.testing.ably import ServerThread, Settings, Subscriber, realtime, rest

UNLIMITED = Settings(inbound_rate=None)


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_a_tool_result_that_was_refused_is_sent_again(granularity: str) -> None:
    with ServerThread(settings=UNLIMITED) as thread:
        with sink(thread, rate=0, granularity=granularity, retry=0.05) as agent:
            response = agent.respond("ai:chat", response_id="r")
            response.write("text")
            assert agent.flush(60)
            thread.fault("nack_next", 1)
            agent.tool_result("ai:chat", "call", "42", response_id="r")
            assert agent.flush(60)
            assert thread.call(lambda: thread.server.faults.refusals_left) == 0
            response.finish()
            assert response.wait(60).status in ("delivered", "recovered")
            (kept,) = agent.history("ai:chat").items
            assert [(one.call_id, one.output) for one in kept.tool_results] == [("call", "42")]


def test_the_end_comes_after_what_was_refused() -> None:
    """A page stops reading a response that has ended: all before its end must be there."""
    with ServerThread(settings=UNLIMITED) as thread:

        async def listen(ready: threading.Event, seen: list[Any]) -> None:
            async with realtime(thread.server, "viewer") as client:
                subscriber = Subscriber()
                await client.channels.get("ai:chat").subscribe(subscriber.take)
                ready.set()
                await subscriber.until(lambda mine: len(_statuses(mine.messages, "r")) >= 2)
                await subscriber.until(
                    lambda mine: {"reasoning", "response"} <= {m.name for m in mine.messages}
                )
                seen += subscriber.messages

        ready, seen = threading.Event(), list[Any]()
        listener = threading.Thread(target=lambda: asyncio.run(listen(ready, seen)))
        listener.start()
        assert ready.wait(60)
        with sink(thread, rate=0, retry=0.05, rollup=0.2) as agent:
            response = agent.respond("ai:chat", response_id="r")
            response.write("text")
            assert agent.flush(60)
            thread.fault("nack_next", 1)
            # Within the rollup window, so that one entry has both.
            response.write("why", kind="reasoning")
            response.finish()
            assert response.wait(60).status in ("delivered", "recovered")
        listener.join(60)
        names = [message.name for message in seen]
        assert "complete" not in _statuses(seen[: names.index("reasoning")], "r")


def _statuses(messages: list[Any], response_id: str) -> list[str]:
    headers = [message.extras["headers"] for message in messages]
    return [each["status"] for each in headers if each.get("responseId") == response_id]


def test_the_first_to_begin_owns_a_response_whichever_is_read_first() -> None:
    with ServerThread(settings=UNLIMITED) as thread:
        for name in ("first", "second"):
            with sink(thread, name, rate=0) as agent:
                response = agent.respond("ai:chat", response_id="r")
                response.write(name)
                response.finish()
                response.wait(60)

        async def read() -> list[ChannelMessage]:
            async with rest(thread.server, "reader") as client:
                page = await client.channels.get("ai:chat").history()
                kept = [from_ably(message, from_history=True) for message in page.items]
                return [message for message in kept if message is not None]

        starts = [message for message in asyncio.run(read()) if "start" in message.headers]
        first, second = sorted(starts, key=lambda message: message.serial)
        assert (first.client_id, second.client_id) == ("first", "second")
        for order in ([first, second], [second, first], [second, first, second, first]):
            changed: list[str] = []
            ownership = Ownership(changed.append)
            for message in order:
                ownership.handle(message)
            assert ownership.owners == {"r": (first.serial, first.headers["producer"])}
            assert changed == ["r"] * (1 if order[0] is first else 2)


def test_each_message_of_a_batch_counts_for_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    # Time stands still for the limiter, so that what it has counted stays counted.
    monkeypatch.setattr(rate_limit, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    with ServerThread(settings=UNLIMITED) as thread:
        with sink(thread, rate=1000, granularity="token") as agent:
            with agent.respond("ai:chat") as response:
                for number in range(100):
                    response.write(f"{number} ")
            assert response.wait(60).status == "delivered"
            taken = thread.call(lambda: thread.server.stats["published"])
            assert taken >= 100
            backend: Any = agent.backend
            limiter: rate_limit.RateLimiter = backend._parts.publisher._sender.limiter
            assert limiter.available == 900 - taken  # a tenth of the limit is kept free


class HeldReads:
    """Lets watchers' reads of history end only when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, buffered: int = 0) -> None:
        monkeypatch.setattr(subscription, "_MAX_BUFFERED", buffered)
        read = subscription.ChannelSubscriptions.read
        take = subscription.ChannelSubscription._on_message
        self.held = threading.Event()
        self.reading = threading.Event()
        self.arrived: list[Any] = []

        async def read_slowly(owner: Any, channel: str, attach_serial: str | None) -> Any:
            messages = await read(owner, channel, attach_serial)
            while self.held.is_set() and owner._enough is subscription.starts_known:  # a watcher's
                self.reading.set()
                await asyncio.sleep(0.001)
            return messages

        def count(watched: Any, message: Any) -> None:
            take(watched, message)
            if watched._owner._enough is subscription.starts_known:
                self.arrived.append(message)

        monkeypatch.setattr(subscription.ChannelSubscriptions, "read", read_slowly)
        monkeypatch.setattr(subscription.ChannelSubscription, "_on_message", count)

    def wait_for(self, status: str) -> None:
        """Wait until a message of the response with this status has arrived."""
        deadline = time.monotonic() + 60
        while status not in _statuses(self.arrived, "r"):
            assert time.monotonic() < deadline
            threading.Event().wait(0.001)


def test_too_many_messages_while_history_is_read_are_read_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = HeldReads(monkeypatch)
    with ServerThread(settings=UNLIMITED) as thread:
        options = {"rate": 0, "granularity": "token"}
        with sink(thread, **options) as agent, sink(thread, "viewer", **options) as viewer:
            watch = viewer.watch("ai:chat").open()
            reads.held.set()
            thread.fault("reattach", "ai:chat")
            assert reads.reading.wait(60)
            with agent.respond("ai:chat", response_id="r") as response:
                response.write("text")
            assert response.wait(60).status == "delivered"
            reads.wait_for("complete")
            reads.held.clear()
            events = read_until(watch, ends_response, timeout=60)
            assert Transcript(events)["r"].text == "text"
            watch.close()


def test_too_many_messages_while_a_channel_is_opened_are_read_from_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = HeldReads(monkeypatch)
    with ServerThread(settings=UNLIMITED) as thread:
        options = {"rate": 0, "granularity": "token"}
        with sink(thread, **options) as agent, sink(thread, "viewer", **options) as viewer:
            reads.held.set()
            watch = viewer.watch("ai:chat", rewind=None)
            opening = threading.Thread(target=watch.open)
            opening.start()
            assert reads.reading.wait(60)
            with agent.respond("ai:chat", response_id="r") as response:
                response.write("text")
            assert response.wait(60).status == "delivered"
            reads.wait_for("complete")
            reads.held.clear()
            opening.join(60)
            events = read_until(watch, ends_response, timeout=60)  # no other message comes
            assert Transcript(events)["r"].text == "text"
            watch.close()


def test_what_is_lost_while_a_channel_is_opened_is_read_from_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = HeldReads(monkeypatch, buffered=100)
    interrupted, on_state = threading.Event(), subscription.ChannelSubscription._on_state

    def note(watched: Any, channel: Any, change: Any) -> None:
        on_state(watched, channel, change)
        if reads.reading.is_set() and watched._owner._enough is subscription.starts_known:
            interrupted.set()

    monkeypatch.setattr(subscription.ChannelSubscription, "_on_state", note)
    with ServerThread(settings=UNLIMITED) as thread:
        options = {"rate": 0, "granularity": "token"}
        with sink(thread, **options) as agent, sink(thread, "viewer", **options) as viewer:
            reads.held.set()
            watch = viewer.watch("ai:chat", rewind=None)
            opening = threading.Thread(target=watch.open)
            opening.start()
            assert reads.reading.wait(60)
            thread.fault("drop_frames", 100, action="MESSAGE")
            with agent.respond("ai:chat", response_id="r") as response:
                response.write("text")
            assert response.wait(60).status == "delivered"
            thread.fault("clear")
            thread.fault("reattach", "ai:chat")
            assert interrupted.wait(60)
            assert not reads.arrived
            reads.held.clear()
            opening.join(60)
            events = read_until(watch, ends_response, timeout=60)
            assert Transcript(events)["r"].text == "text"
            watch.close()


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_what_is_lost_on_an_open_connection_is_read_from_history(granularity: str) -> None:
    """Only the text behind it shows that something is missing; the response goes on."""
    options: dict[str, Any] = {"rate": 0, "granularity": granularity}
    with (
        ServerThread(settings=UNLIMITED) as thread,
        sink(thread, **options) as agent,
        sink(thread, "viewer", **options) as viewer,
        viewer.watch("ai:chat").open() as watch,
        agent.respond("ai:chat", response_id="r") as response,
    ):
        transcript = Transcript()

        def shows(text: str) -> Callable[[Event], bool]:
            def shown(event: Event) -> bool:
                transcript.apply(event)
                return "r" in transcript and transcript["r"].text == text

            return shown

        response.write("one, ")
        read_until(watch, shows("one, "), timeout=60)
        thread.fault("drop_frames", 100, action="MESSAGE")
        response.write("two, ")
        assert agent.flush(60)
        thread.fault("clear")
        response.write("three")
        read_until(watch, shows("one, two, three"), timeout=60)


async def test_what_came_before_a_failed_opening_is_tried_again_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = subscription.ChannelSubscriptions.read
    failures = [BackendUnavailable("history cannot be read")]

    async def read_at_last(owner: Any, channel: str, attach_serial: str | None) -> Any:
        if failures and owner._enough is subscription.starts_known:  # a watcher's
            raise failures.pop()
        return await read(owner, channel, attach_serial)

    monkeypatch.setattr(subscription.ChannelSubscriptions, "read", read_at_last)
    with ServerThread(settings=UNLIMITED) as thread, sink(thread, rate=0) as agent:
        viewer = backend(thread, "viewer")
        watched = viewer._parts.subscriber._subscriptions.open("ai:chat")
        with pytest.raises(BackendUnavailable):
            await watched.ready()
        with agent.respond("ai:chat", response_id="r") as response:
            response.write("text")
        assert (await asyncio.to_thread(response.wait, 60)).status == "delivered"
        await watched.ready()
        records = watched.handler.log.reassembler.records
        try:
            async with asyncio.timeout(60):
                while "r" not in records or not records["r"].assembler.ended:
                    await asyncio.sleep(0.001)
        finally:
            await viewer.close()
        assert records["r"].response.text == "text"
