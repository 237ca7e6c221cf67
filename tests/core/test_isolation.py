"""An entry that a backend cannot keep delays no other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tokenwire import DataEvent, EndEvent, MemoryBackend, PublishRejected, StartEvent, open_sink
from tokenwire.backend import Capabilities, Entry, Outcome


class Picky(MemoryBackend):
    """Raises for every batch that has something of channel ``bad``, as a bug would."""

    def publish_nowait(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        if any(entry.channel == "bad" for entry in entries):
            raise TypeError("unhashable")
        return super().publish_nowait(entries)

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        return self.publish_nowait(entries)


class PickyNotInline(Picky):
    capabilities = Capabilities(inline=False)


@pytest.mark.parametrize("backend", [Picky, PickyNotInline])
def test_others_do_not_wait_for_what_the_backend_raises_for(
    backend: type[MemoryBackend], caplog: pytest.LogCaptureFixture
) -> None:
    with open_sink(backend()) as sink:
        for _ in range(8):
            sink.send_event("bad", "n", 1)
        bad = sink.respond("bad")
        bad.write("lost")
        bad.finish()
        for _ in range(20):
            with sink.respond("good") as writer:
                writer.write("hi")
            receipt = writer.wait(10)
            assert receipt.status == "delivered"
            assert receipt.retries <= 1  # at most it was in a batch with a bad one, once
        assert bad.wait(10).status == "lost"
        assert sink.flush(10)
    assert 1 <= len([r for r in caplog.records if "raised 'TypeError'" in r.message]) <= 40


@pytest.mark.parametrize(
    "event",
    [
        DataEvent(name="n", response_id={"a": 1}),  # type: ignore[arg-type]
        DataEvent(name=5),  # type: ignore[arg-type]
        DataEvent(name="n", data=10**30),
        DataEvent(name="n", data=threading.Lock()),
        DataEvent(name="\ud800"),
        EndEvent(response_id="r", state="paused"),  # type: ignore[arg-type]
        StartEvent(response_id="r", metadata={1: 2}),  # type: ignore[dict-item]
    ],
    ids=range(7),
)
async def test_memory_refuses_alone_what_no_reader_could_decode(event: Any) -> None:
    backend = MemoryBackend()
    entries = [
        Entry(channel="c", events=(DataEvent(name="before"),), key="1"),
        Entry(channel="c", events=(event,), key="2"),
        Entry(channel="c", events=(DataEvent(name="after"),), key="3"),
    ]
    outcomes = await backend.publish(entries)
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        PublishRejected,
        type(None),
    ]
