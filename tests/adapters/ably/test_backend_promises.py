"""What the documentation of the Ably backend promises, one by one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ably.types.message import Message

from tests.adapters.ably.places import sink
from tokenwire.testing import read_until
from tokenwire_adapters.testing.ably import ServerThread, Settings, Subscriber, realtime

UNLIMITED = Settings(inbound_rate=None)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the server does, for which there is no event to await."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_publishes_are_pipelined_within_a_window(granularity: str) -> None:
    with ServerThread(settings=UNLIMITED) as thread:
        with sink(thread, rate=0, granularity=granularity, window=4) as agent:
            response = agent.respond("ai:chat", response_id="r")
            response.write("first, ")
            assert agent.flush(60)
            thread.fault("hold_acks")
            before = thread.server.stats["messages_in"]
            written = 0

            def under_way() -> int:
                return thread.server.stats["messages_in"] - before

            while under_way() < 4:  # no answer has come, and more goes out all the same
                response.write(f"{written} ")
                written += 1
                threading.Event().wait(0.01)
            for _ in range(100):  # the window is full: this waits, and the agent does not
                response.write(f"{written} ")
                written += 1
            threading.Event().wait(0.2)  # time in which more would come
            assert under_way() == 4 or granularity == "token"
            thread.fault("hold_acks", False)
            response.finish()
            assert response.wait(60).status == "delivered"
            text = "first, " + "".join(f"{number} " for number in range(written))
            assert agent.history("ai:chat").items[0].text == text
            # What waited went out together.
            if granularity == "response":
                assert thread.server.stats["messages_in"] - before <= 4 + 3


def test_extras_are_repeated_on_every_append() -> None:
    with ServerThread(settings=UNLIMITED) as thread:

        async def listen(ready: threading.Event, seen: list[Any]) -> None:
            async with realtime(thread.server) as client:
                subscriber = Subscriber()
                await client.channels.get("ai:chat").subscribe(subscriber.take)
                ready.set()
                await subscriber.until(
                    lambda mine: (
                        mine.messages
                        and mine.messages[-1].extras["headers"]["status"] == "complete"
                    )
                )
                seen += subscriber.messages

        ready, seen = threading.Event(), list[Any]()
        listener = threading.Thread(target=lambda: asyncio.run(listen(ready, seen)))
        listener.start()
        assert ready.wait(60)
        with sink(thread, rate=0) as agent:
            with agent.respond("ai:chat", response_id="r", run="run-1") as response:
                for number in range(20):
                    response.write(f"{number} ")
                    assert agent.flush(60)
            assert response.wait(60).status == "delivered"
        listener.join(60)
        appends = [message for message in seen if message.action.name == "MESSAGE_APPEND"]
        assert len(appends) >= 10
        for message in seen:
            headers = message.extras["headers"]
            assert (headers["responseId"], headers["run"]) == ("r", "run-1")
            assert headers["status"] in ("streaming", "complete")
            assert {"producer", "lease"} <= set(headers)
            if message.data:
                assert {"part", "kind", "offset", "length", "crc"} <= set(headers)


def test_a_deleted_message_takes_its_response_from_history() -> None:
    with ServerThread(settings=UNLIMITED) as thread:
        with sink(thread, rate=0) as agent, sink(thread, "viewer", lease=2.0) as viewer:
            watch = viewer.watch("ai:chat").open()
            for name in ("r1", "r2"):
                with agent.respond("ai:chat", response_id=name) as response:
                    response.write("x" * 1000, kind="reasoning")
                    response.write(f"text of {name}")
                assert response.wait(60).status == "delivered"
            head = thread.call(lambda: next(iter(thread.server.channels["ai:chat"].messages)))

            async def delete() -> None:
                async with realtime(thread.server, "moderator") as client:
                    await client.channels.get("ai:chat").delete_message(Message(serial=head))

            asyncio.run(delete())
            agent.send_event("ai:chat", "done")
            events = read_until(watch, lambda event: event.type == "data")
            watch.close()
            assert [event.type for event in events].count("end") == 2
            # Its rest does not come back as a response that was never ended.
            for again in (agent, viewer):
                assert [kept.id for kept in again.history("ai:chat").items] == ["r2"]
            with sink(thread, "late") as other:
                late = other.watch("ai:chat", rewind="all")
                events = read_until(late, lambda event: event.type == "data")
                late.close()
            assert {e.response_id for e in events if e.response_id} == {"r2"}
            names = [m.latest.name for m in thread.server.channels["ai:chat"].messages.values()]
            assert "end" not in names


@pytest.mark.slow
@pytest.mark.parametrize("right", [True, False])
def test_the_doctor(right: bool) -> None:
    """`tokenwire doctor`, as an operator runs it."""
    rights = {"*": ["publish", "subscribe", "history", "message-update-own"]}
    if not right:
        rights["*"].remove("message-update-own")
    with ServerThread() as thread:
        token = thread.server.token("agent", **rights)
        url = f"ably://?endpoint=127.0.0.1&port={thread.server.port}&tls=false&token_env=TOKEN"
        done = subprocess.run(
            [sys.executable, "-m", "tokenwire_adapters.cli", "doctor", f"{url}&check_channel=ai:x"],
            env={"TOKEN": token, "PATH": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = done.stdout + done.stderr
        assert token not in output
        assert (done.returncode == 0) == right, output
        assert ("round_trip_ms" if right else "message-update-own") in output
