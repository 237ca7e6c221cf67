"""Redis keeps what the memory backend keeps, whatever an agent hands over."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.odd_values import KEPT, REPLACED
from tokenwire import DataEvent, InputEvent, MemoryBackend, Sink, ToolResultEvent, open_sink

CASES = {name: case[0] for name, case in (KEPT | REPLACED).items() if name[:4] != "more"}


def _numpy() -> dict[str, Any]:
    numpy = pytest.importorskip("numpy")
    return {
        "float64": numpy.float64(0.5),
        "float32": numpy.float32(0.5),
        "int64": numpy.int64(5),
        "bool": numpy.bool_(True),
        "array": numpy.array([[1.5, 2.0]]),
        "nan": numpy.float32("nan"),
        "datetime": numpy.datetime64("2026-01-02"),
        "str": numpy.str_("text"),
    }


def _record(sink: Sink, values: dict[str, Any]) -> dict[str, list[Any]]:
    """Hand values to every call that takes some; return what a watcher and history have."""
    kept: dict[str, list[Any]] = {}
    for number, (name, value) in enumerate(values.items()):
        channel = f"c{number}"
        with sink.respond(channel, response_id="r", metadata={"a": value}) as writer:
            writer.write("The answer ")
            writer.data_part("chart", value)
            writer.tool_result("call", value)
            writer.write("is 42")
            writer.finish(usage={"a": value})
        sink.send_event(channel, "n", value, run=value)
        sink.tool_result(channel, "late", value, response_id="r", run=value, name=value)
        assert sink.flush(10), name
        sink.input(channel, "n", value, id="i")
        assert sink.flush(10), name
        (response,) = sink.history(channel).items
        assert (response.state, response.text) == ("complete", "The answer is 42"), name
        singles: list[Any] = []
        for event in sink.watch(channel, rewind="all"):
            if isinstance(event, DataEvent | ToolResultEvent):
                event = msgspec.structs.replace(event, cursor=None, ts=None)
                singles.append(msgspec.to_builtins(event) | {"id": None})
            elif isinstance(event, InputEvent):
                singles.append(event.data)
                break
        fields = msgspec.to_builtins(response)
        kept[name] = [fields | {"started_at": 0, "ended_at": 0}, *singles]
    return kept


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_redis_keeps_what_memory_keeps(shared_redis: Any, granularity: Any) -> None:
    values = {**CASES, **_numpy()}
    with open_sink(MemoryBackend(granularity=granularity)) as sink:
        expected = _record(sink, values)
    with open_sink(shared_redis.url, granularity=granularity) as sink:
        kept = _record(sink, values)
        assert sink.stats().writing.lost == sink.stats().writing.fenced == 0
    for name in values:
        assert kept[name] == expected[name], name
