"""Whatever an agent hands over becomes something that every codec can encode, or is replaced."""

from __future__ import annotations

import gc
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.odd_values import KEPT, REPLACED, Colour, Nameless, Text
from tokenwire import (
    DataEvent,
    InvalidName,
    InvalidValue,
    MemoryBackend,
    ResponseWriter,
    Sink,
    open_sink,
)
from tokenwire.events import (
    decode_json,
    decode_msgpack,
    encode_json,
    encode_msgpack,
    plain,
)

CASES = {**KEPT, **REPLACED}
SMALL = {name: case for name, case in REPLACED.items() if name != "more than there are atoms"}

CALLS: dict[str, Callable[[Sink, ResponseWriter, Any], object]] = {
    "part": lambda _, writer, value: writer.part("data", name="n", data=value),
    "data_part": lambda _, writer, value: writer.data_part("n", value),
    "tool_result": lambda _, writer, value: writer.tool_result("c1", value),
    "send_event": lambda sink, _, value: sink.send_event("c", "n", value),
    "tool_result of the sink": lambda sink, _, value: sink.tool_result("c", "c1", value),
    "input": lambda sink, _, value: sink.input("c", "n", value),
    "finish": lambda _, writer, value: writer.finish(usage={"total": value}),
    "fail": lambda _, writer, value: writer.fail("broken", usage={"total": value}),
    "metadata": lambda sink, _, value: sink.respond("c", metadata={"a": value}).finish(),
}


@pytest.mark.parametrize("name", CASES)
def test_every_codec_takes_what_passed_the_gate(name: str) -> None:
    given, kept = CASES[name]
    value = plain(given)
    if kept is not None or name in KEPT or "nan" in name or name == "infinity":
        assert value == kept
        assert type(value) is type(kept)
    event = DataEvent(name="n", data=value)
    assert decode_json(encode_json(event)) == event
    assert decode_msgpack(encode_msgpack(event)) == event


@pytest.mark.parametrize("call", CALLS)
def test_strict_mode_raises_at_the_call_where_something_is_lost(call: str) -> None:
    with open_sink(MemoryBackend(), strict=True) as sink:
        for given, _ in KEPT.values():
            with sink.respond("c") as writer:
                CALLS[call](sink, writer, given)
        for name, (given, _) in SMALL.items():
            with sink.respond("c") as writer, pytest.raises(InvalidValue, match="replaced|cut|<|:"):
                CALLS[call](sink, writer, given)
            assert writer.ended, name


@pytest.mark.parametrize("call", CALLS)
def test_other_modes_replace_it_and_count_it(call: str, caplog: pytest.LogCaptureFixture) -> None:
    sink = open_sink(MemoryBackend())
    for given, _ in SMALL.values():
        with sink.respond("c") as writer:
            assert writer.write("text")
            CALLS[call](sink, writer, given)
        assert writer.wait(10).status == "delivered"
    assert sink.stats().replaced >= len(SMALL)
    assert any("nan is not JSON" in record.message for record in caplog.records)
    for response in sink.history("c", limit=100).items:
        assert response.ended
        assert response.text in ("text", "")
    sink.close()


_ARGUMENTS: list[Any] = [Nameless(), 10**5000, {"a": Nameless()}, [1], 7, "x", object()]


@pytest.mark.parametrize("given", _ARGUMENTS, ids=range(len(_ARGUMENTS)))
@pytest.mark.parametrize("argument", ["usage", "finish_reason"])
@pytest.mark.parametrize("strict", [True, False])
def test_finish_ends_the_response_whatever_its_arguments_are(
    given: Any, argument: str, strict: bool
) -> None:
    with open_sink(MemoryBackend(), strict=strict) as sink:
        writer = sink.respond("c", response_id="r")
        writer.write("hello")
        try:
            writer.finish(**{argument: given})
        except InvalidValue:
            assert strict
        assert writer.state == "complete"
        (response,) = sink.history("c").items
        assert (response.state, response.text) == ("complete", "hello")


_REASONS: list[Any] = [Nameless(), 7, {"a": 1}, ValueError("x"), Text("t"), b"b"]


@pytest.mark.parametrize("given", _REASONS, ids=range(len(_REASONS)))
def test_errors_and_reasons_may_be_anything(given: Any) -> None:
    with open_sink(MemoryBackend(), strict=True) as sink:
        sink.respond("c").fail(given)
        sink.respond("c").cancel(given)
        sink.respond("c").abandon(given)
        writer = sink.respond("c", response_id="last")
        writer.tool_result("c1", error=given)
        sink.tool_result("c", "c2", error=given, response_id="last")
        sink.cancel("c", "last", reason=given)
        states = [response.state for response in sink.history("c").items]
        assert states == ["cancelled", "abandoned", "cancelled", "failed"]
        for response in sink.history("c").items:
            assert type(response.error) is str


def test_ids_may_be_uuids_and_ints(caplog: pytest.LogCaptureFixture) -> None:
    one = uuid.uuid4()
    with open_sink(MemoryBackend(), strict=True) as sink:
        with sink.respond("c", response_id=one, run=7) as writer:  # type: ignore[arg-type]
            assert (writer.id, writer.run) == (str(one), "7")
        sink.tool_result("c", "c1", 1, response_id=one, run=one)  # type: ignore[arg-type]
        (response,) = sink.history("c").items
        assert [result.output for result in response.tool_results] == [1]
        sink.send_event("c", "n", 1, response_id=Text("r"), run=Text("run"))
        sink.input("c", "n", 1, id=one, sender=one)  # type: ignore[arg-type]
    assert not caplog.records


_NO_IDS: list[Any] = [1.5, float("nan"), {"a": 1}, [], Nameless(), "a\n", "", True]


@pytest.mark.parametrize("given", _NO_IDS, ids=range(len(_NO_IDS)))
def test_what_cannot_be_an_id_is_left_out(given: Any) -> None:
    for strict in (True, False):
        with open_sink(MemoryBackend(), strict=strict) as sink:
            calls: list[Callable[[], object]] = [
                lambda sink=sink: sink.send_event("c", "n", 1, run=given),
                lambda sink=sink: sink.send_event("c", "n", 1, response_id=given),
                lambda sink=sink: sink.tool_result("c", "c1", 1, run=given),
                lambda sink=sink: sink.tool_result("c", "c2", 1, response_id=given),
                lambda sink=sink: sink.respond("c", response_id="r", run=given).finish(),
            ]
            for call in calls:
                if strict:
                    with pytest.raises(InvalidName):
                        call()
                else:
                    call()
            events = [] if strict else list(sink.watch("c", rewind="all", response_id="r"))
            assert all(event.response_id == "r" for event in events)
            assert len(events) == (0 if strict else 1)


def test_text_and_kinds_of_other_classes_are_plain() -> None:
    for granularity in ("response", "token"):
        backend = MemoryBackend(granularity=granularity)  # type: ignore[arg-type]
        with open_sink(backend, strict=True) as sink:
            with sink.respond("c", response_id="r") as writer:
                for text in (Text("a"), "b", Text("\ud83d"), Text("\ude42")):
                    writer.write(text)
                writer.write(Text("why"), kind=Text("reasoning"))
                writer.write("7", kind=7)  # type: ignore[arg-type]
                writer.write("{", name=Text("tool"), call_id=8)  # type: ignore[arg-type]
                writer.write("}", name=Text("tool"), call_id=8)  # type: ignore[arg-type]
                writer.part(Colour.RED, text=Text("red"), name=Text("n"), call_id=Text("i"))
            (response,) = sink.history("c").items
        assert [(part.kind, part.text) for part in response.parts] == [
            ("text", "ab\U0001f642"),
            ("reasoning", "why"),
            ("7", "7"),
            ("text", "{}"),
            ("red", "red"),
        ]
        for part in response.parts:
            for text in (part.kind, part.text, part.name or "", part.call_id or ""):
                assert type(text) is str


def test_a_dict_that_another_thread_changes_is_taken_as_it_is_at_some_moment() -> None:
    shared: dict[str, Any] = {str(n): n for n in range(1000)}
    done = threading.Event()

    def change() -> None:
        n = 1000
        while not done.is_set():
            shared[str(n)] = n
            del shared[str(n - 1000)]
            n += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with open_sink(MemoryBackend(), strict=True) as sink:
            for _ in range(200):
                sink.respond("c", metadata=shared).finish(usage={"counts": shared})
            for response in sink.history("c", limit=1000).items:
                assert len(response.metadata) in (1000, 1001)
    finally:
        done.set()
        thread.join()


def test_a_dict_that_changes_while_garbage_is_collected_is_taken_as_it_was() -> None:
    shared: dict[str, Any] = {str(n): n for n in range(1000)}

    def change(phase: str, info: dict[str, int]) -> None:
        shared[str(len(shared))] = 0

    with open_sink(MemoryBackend(), strict=True) as sink:
        before, threshold = len(shared), gc.get_threshold()
        gc.callbacks.append(change)
        gc.set_threshold(100)
        try:
            sink.respond("c", metadata=shared).finish()
        finally:
            gc.set_threshold(*threshold)
            gc.callbacks.remove(change)
        (response,) = sink.history("c").items
        assert before <= len(response.metadata) <= len(shared)


def test_what_is_kept_is_a_copy() -> None:
    metadata = {"list": [1]}
    with open_sink(MemoryBackend(), strict=True) as sink:
        writer = sink.respond("c", metadata=metadata)
        metadata["list"].append(2)
        writer.finish()
        assert sink.history("c").items[0].metadata == {"list": [1]}
