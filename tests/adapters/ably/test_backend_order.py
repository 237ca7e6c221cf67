"""Single events between responses keep their place."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adapters.ably.places import sink
from tokenwire.events import DataEvent, Event
from tokenwire.response import Transcript
from tokenwire.testing import read_until
from tokenwire_adapters._backends.ably import subscriber
from tokenwire_adapters.testing.ably import ServerThread, Settings


@pytest.mark.parametrize(
    "settings",
    [{}, {"granularity": "token"}, {"dialect": "ai-transport"}],
    ids=["response", "token", "ai-transport"],
)
def test_data_events_keep_their_place(settings: dict[str, Any]) -> None:
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        with (
            sink(thread, rate=0, **settings) as agent,
            sink(thread, "viewer", **settings) as viewer,
        ):
            watch = viewer.watch("ai:chat").open()
            expected: list[str] = []
            for name in ("r1", "r2", "r3"):
                agent.send_event("ai:chat", f"before {name}")
                with agent.respond("ai:chat", response_id=name) as response:
                    response.write("some")
                    assert agent.flush(60)  # what waits to be sent is merged, across data events
                    agent.send_event("ai:chat", f"within {name}")
                    response.write("text")
                assert response.wait(60).status == "delivered"  # an end waits for all before it
                agent.send_event("ai:chat", f"after {name}")
                expected += [f"before {name}", "start", f"within {name}", "end", f"after {name}"]
            events = read_until(watch, lambda e: isinstance(e, DataEvent) and e.name == "after r3")
            watch.close()
            seen = [event.name if isinstance(event, DataEvent) else event.type for event in events]
            assert [name for name in seen if name in expected] == expected


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_a_taken_id_is_refused_after_many_messages(granularity: str) -> None:
    """A producer that was started again under the same id does not write over the first."""
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        with sink(thread, rate=0, granularity=granularity) as first:
            with first.respond("ai:chat", response_id="r") as response:
                for number in range(30):
                    response.write(f"{number} ")
                    assert first.flush(60)
            for number in range(90):
                first.send_event("ai:chat", f"later {number}")
        with sink(thread, rate=0, granularity=granularity) as again:
            with again.respond("ai:chat", response_id="r") as response:
                response.write("something else")
            assert response.wait(60).status == "refused"
            (kept,) = again.history("ai:chat").items
            assert kept.text == "".join(f"{number} " for number in range(30))


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_much_metadata_before_a_long_token(granularity: str) -> None:
    """Both count for the size of a message, and both arrive."""
    text, metadata = "x" * 60_000, {"note": "y" * 12_000}
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        with sink(thread, rate=0, granularity=granularity, markers=False) as agent:
            with agent.respond("ai:chat", metadata=metadata) as response:
                response.write(text)
            assert response.wait(60).status == "delivered"
            (kept,) = agent.history("ai:chat").items
            assert (kept.text, kept.metadata) == (text, metadata)


def test_who_joins_is_given_what_began_many_messages_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """History is read on until each response in it has its beginning."""
    monkeypatch.setattr(subscriber, "_LIVE_PAGE", 5)
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        options = {"rate": 0, "granularity": "token"}
        with sink(thread, **options) as agent, sink(thread, "viewer", **options) as viewer:
            long = agent.respond("ai:chat", response_id="long")
            for number in range(20):
                long.write(f"{number} ")
            assert agent.flush(60)
            new = agent.respond("ai:chat", response_id="new")
            new.write("new")
            assert agent.flush(60)
            transcript = Transcript()

            def whole(event: Event) -> bool:
                transcript.apply(event)
                return {response.id for response in transcript} == {"long", "new"}

            watch = viewer.watch("ai:chat").open()
            read_until(watch, whole, timeout=60)
            watch.close()
            assert transcript["long"].text == "".join(f"{number} " for number in range(20))
            assert transcript["new"].text == "new"
            long.finish()
            new.finish()
