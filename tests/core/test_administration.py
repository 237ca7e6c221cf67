"""Administration beyond the contract: other releases' exports, refusals, asynchronous twins."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tokenwire import (
    DecodeError,
    Deleted,
    InvalidName,
    MemoryBackend,
    NotSupported,
    Retention,
    Sink,
    open_sink,
)
from tokenwire.backend import Backend, Entry, Outcome
from tokenwire.events import DataEvent, EndEvent, InputEvent
from tokenwire.memory import MemoryStore
from tokenwire.testing import FaultyBackend, Publish

PATIENCE = 30.0
EXPORTS = Path(__file__).parent / "exports"  # data: written by the release that had the format


@pytest.fixture
def sink():
    with Sink(MemoryBackend(), strict=True) as sink:
        yield sink


def write(sink, channel, text, **options):
    with sink.respond(channel, response_id=text, **options) as response:
        response.write(text)


def events_of(sink, channel):
    sink.send_event(channel, "end")
    events = []
    with sink.watch(channel, rewind="all") as watch:
        for event in watch:
            if isinstance(event, DataEvent) and event.name == "end":
                break
            events.append(event)
    return events


# -- exports


@pytest.mark.parametrize("path", sorted(EXPORTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_an_export_of_an_earlier_release_is_imported(sink, path):
    with path.open("rb") as file:
        report = sink.import_channels(file)
    assert (report.responses, report.events, report.refused) == (1, 2, {})
    (response,) = sink.history("chat-42").items
    assert (response.id, response.run, response.state) == ("r1", "run-1", "complete")
    assert (response.text, response.reasoning) == ("Héllo wörld", "Let me think. ")
    assert [(part.name, part.arguments) for part in response.tool_calls] == [
        ("search", '{"q":"ö"}')
    ]
    assert [result.output for result in response.tool_results] == [{"hits": 1}]
    assert (response.finish_reason, response.usage) == ("stop", {"output_tokens": 3})
    assert response.metadata == {"user": "u1"}
    assert response.ended_at is not None
    (question,) = [e for e in events_of(sink, "chat-42") if isinstance(e, InputEvent)]
    assert (question.data, question.sender, question.id) == ("And then?", "u1", "i1")


def test_what_a_later_release_adds_is_passed_over(sink):
    parts = [{"kind": "text", "text": "Hello"}]
    later = {"id": "r1", "state": "complete", "mood": "good", "parts": parts}
    lines = [
        '{"type":"tokenwire","format":1,"version":"9.0","of":"the future"}',
        '{"type":"thread","channel":"c","title":"of the future"}',
        "",
        json.dumps({"type": "response", "channel": "c", "of": "later", "response": later}),
    ]
    report = sink.import_channels(lines)
    assert (report.responses, report.unknown, report.refused) == (1, 1, {})
    assert sink.history("c").items[0].text == "Hello"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"type":"tokenwire","format":2,"version":"9.0"}'], "line 1: tokenwire 9.0 .* upgrade"),
        (['{"type":"response","channel":"c","response":{"id":"r"}}'], "line 1: no export"),
        (["Dear diary"], "line 1: no line of an export"),
        (['{"type":"tokenwire"}', "{"], "line 2: no line of an export"),
        (['{"type":"tokenwire"}', '{"type":"event","channel":"c"}'], "line 2: no line"),
        (
            [
                '{"type":"tokenwire"}',
                '{"type":"event","channel":"c","event":{"type":"start","response_id":"r"}}',
            ],
            "line 2: no line",
        ),
        (
            ['{"type":"tokenwire"}', '{"type":"response","channel":"","response":{"id":"r"}}'],
            "line 2: channel must have",
        ),
        ([b"\xff\xfe"], "line 1: no line of an export"),
        (["[" * 100_000], "line 1: no line of an export"),
    ],
)
def test_what_is_no_export_is_refused_with_its_line(sink, lines, message):
    with pytest.raises(DecodeError, match=message):
        sink.import_channels(lines)


def test_what_comes_before_a_bad_line_is_imported(sink):
    good = [
        json.dumps({"type": "event", "channel": "c", "event": {"type": "data", "name": f"n{n}"}})
        for n in range(200)
    ]
    with pytest.raises(DecodeError, match="line 202"):
        sink.import_channels(['{"type":"tokenwire"}', *good, "{"])
    assert len(events_of(sink, "c")) == 200


def test_an_import_goes_on_where_the_backend_was_away():
    with Sink(MemoryBackend()) as sink:
        for n in range(5):
            write(sink, "c", f"r{n}")
        lines = list(sink.export_channels())
    faults = [Publish.FAIL, Publish.LOSE_REPLY, Publish.LIMIT]
    with Sink(FaultyBackend(MemoryBackend(), publish=faults)) as sink:
        assert sink.import_channels(lines).responses == 5
        assert [one.text for one in sink.history("c").items] == [f"r{n}" for n in (4, 3, 2, 1, 0)]


def test_what_the_backend_refuses_is_reported(sink):
    write(sink, "c", "r0")
    lines = list(sink.export_channels())
    with Sink(FaultyBackend(MemoryBackend(), publish=[Publish.REJECT])) as refusing:
        assert refusing.import_channels(lines).refused == {"c/r0": "injected: refused"}


def test_a_token_log_is_exported_as_whole_responses():
    store = MemoryStore(granularity="token")
    with Sink(MemoryBackend(store)) as sink:
        with sink.respond("c", response_id="r") as response:
            for _ in range(20):
                response.write("one ")
                sink.flush()
        sink.tool_result("c", "call", "late", response_id="r")
        sink.flush()
        types = [json.loads(line)["type"] for line in sink.export_channels(["c"])]
        assert types == ["tokenwire", "response", "event"]
        lines = list(sink.export_channels(["c"]))
    with Sink(MemoryBackend()) as sink:
        sink.import_channels(lines)
        (response,) = sink.history("c").items
        assert response.text == "one " * 20
        assert response.tool_results[0].output == "late"


# -- deletion


def test_all_channels_are_looked_through_for_a_user(sink):
    for n in range(150):
        write(sink, f"c{n}", "hers", metadata={"owner": "u1"})
        write(sink, f"c{n}", "his", metadata={"owner": "u2"})
    assert sink.delete_user("u1", key="owner") == Deleted(responses=150)
    assert {one.id for n in range(150) for one in sink.history(f"c{n}").items} == {"his"}


def test_names_are_checked(sink):
    for call in (
        lambda: sink.delete_response("", "r"),
        lambda: sink.delete_response("c", ""),
        lambda: sink.delete_channel(""),
        lambda: sink.delete_user("u", channels=[""]),
        lambda: sink.retention(""),
        lambda: sink.set_retention("", None),
        lambda: sink.export_channels([""]),
    ):
        with pytest.raises(InvalidName):
            call()


def test_a_backend_that_can_do_nothing_says_so():
    class Plain(MemoryBackend):
        capabilities = type(MemoryBackend.capabilities)(inline=True)
        delete = Backend.delete
        list_channels = Backend.list_channels
        retention = Backend.retention
        set_retention = Backend.set_retention

    with Sink(Plain()) as sink:
        write(sink, "c", "r")
        for call in (
            lambda: sink.delete_response("c", "r"),
            lambda: sink.delete_channel("c"),
            lambda: sink.delete_user("u"),
            lambda: list(sink.list_channels()),
            lambda: sink.retention("c"),
            lambda: sink.set_retention("c", None),
            lambda: list(sink.export_channels()),
        ):
            with pytest.raises(NotSupported, match="Plain"):
                call()
        assert len(list(sink.export_channels(["c"]))) == 2


# -- the asynchronous twins


def test_every_method_has_an_asynchronous_twin():
    async def scenario():
        async with open_sink(MemoryBackend()) as sink:
            write(sink, "a", "r1", metadata={"user": "u"})
            write(sink, "b", "r2", metadata={"user": "u"})
            assert {one.name async for one in sink.list_channels()} == {"a", "b"}
            lines = [line async for line in sink.export_channels()]
            assert await sink.adelete_response("a", "r1")
            assert await sink.adelete_channel("a") == Deleted()
            assert await sink.adelete_user("u") == Deleted(responses=1)
            assert [one async for one in sink.list_channels()] == []
            assert (await sink.aimport_channels(lines)).responses == 2

            async def reading():
                for line in lines:
                    yield line

            assert (await sink.aimport_channels(reading())).present == 2
            await sink.aset_retention("a", Retention(responses=1))
            assert (await sink.aretention("a")).responses == 1

    asyncio.run(scenario())


def test_a_deleted_response_stays_so_where_the_backend_tried_its_end_again():
    """As a client of Redis does, when it gets no reply: the second try finds no response."""
    deleted = threading.Event()

    class Repeating(FaultyBackend):
        async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
            outcomes = await super().publish(entries)
            if not any(isinstance(event, EndEvent) for entry in entries for event in entry.events):
                return outcomes
            await asyncio.to_thread(deleted.wait, PATIENCE)
            return await super().publish(entries)

    store = MemoryStore()
    with Sink(Repeating(MemoryBackend(store))) as sink, Sink(MemoryBackend(store)) as other:
        response = sink.respond("c", response_id="r")
        response.write("so far")
        assert sink.flush(PATIENCE)
        assert other.delete_response("c", "r", timeout=PATIENCE)
        deleted.set()
        assert sink.flush(PATIENCE)
        assert response.cancelled
        assert list(other.history("c").items) == []
