"""Calls of a producer with arguments of wrong types, drawn by hypothesis."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.support.odd_values import Colour, Nameless, Number, Scalar, Text
from tokenwire import DataEvent, ResponseWriter, Sink

__all__ = ["anything", "calls", "check_channel", "perform"]


class Mute(Nameless):
    """An object without a text, which hypothesis can show."""

    def __repr__(self) -> str:
        return "Mute"


class Huge(int):
    """An int that has too many digits to print."""

    def __repr__(self) -> str:
        return "Huge"


_leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([Huge(10**5000), 2**64, -(2**63) - 1]),
    st.floats(),
    st.text(st.characters(), max_size=8),
    st.text(st.sampled_from("\ud83d\ude42\x00\n a"), max_size=4),
    st.binary(max_size=4),
    st.uuids(),
    st.decimals(),
    st.datetimes(timezones=st.sampled_from([None, datetime.UTC])),
    st.sampled_from([Mute(), object(), Colour.RED, Number.ONE, Scalar(), decimal, len]),
    st.builds(Text, st.text(max_size=4)),
    st.builds(ValueError, st.text(max_size=4)),
)
_keys = st.one_of(st.text(max_size=3), st.integers(), st.none())
anything: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(st.text(max_size=3), st.integers(), st.none()), inner, max_size=3
        ),
        st.tuples(inner),
    ),
    max_leaves=6,
)
_Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def _call(name: str, positional: int, *keywords: str) -> st.SearchStrategy[_Call]:
    options = st.fixed_dictionaries({}, optional=dict.fromkeys(keywords, anything))
    return st.tuples(st.just(name), st.tuples(*[anything] * positional), options)


calls: st.SearchStrategy[list[_Call]] = st.lists(
    st.one_of(
        _call("write", 1, "kind", "name", "call_id"),
        st.tuples(st.just("write"), st.tuples(st.text(max_size=9)), st.just({})),
        _call("part", 1, "name", "call_id", "data", "text"),
        _call("tool_call", 2, "arguments"),
        _call("tool_result", 2, "name", "error"),
        _call("data_part", 2),
        _call("finish", 0, "finish_reason", "usage"),
        _call("fail", 1, "finish_reason", "usage"),
        _call("cancel", 0, "reason", "finish_reason", "usage"),
        _call("abandon", 1),
        _call("add_cancel_callback", 1),
        _call("sink.tool_result", 2, "response_id", "run", "name", "error"),
        _call("sink.send_event", 2, "response_id", "run"),
        _call("sink.respond", 0, "response_id", "run", "metadata"),
    ),
    max_size=8,
)
"""Names of methods, of a writer and (``sink.…``) of its sink, and their arguments."""


def perform(sink: Sink, channel: str, sequence: list[_Call]) -> ResponseWriter:
    """Make calls on a sink that is not strict. None may raise."""
    writer = sink.respond(channel, response_id="r")
    writer.write("text")
    for name, arguments, options in sequence:
        if not name.startswith("sink."):
            getattr(writer, name)(*arguments, **options)
            continue
        method: Callable[..., Any] = getattr(sink, name.removeprefix("sink."))
        result = method(channel, *arguments, **options)
        if isinstance(result, ResponseWriter):
            result.write("other")
            result.finish()
    writer.finish()
    return writer


def check_channel(sink: Sink, channel: str, writer: ResponseWriter) -> list[Any]:
    """Check that all has ended, and that history and a new watcher can read it.

    :return: the responses, without what differs from run to run.
    """
    assert sink.flush(30)
    assert writer.ended
    assert writer.wait(30).status == "delivered"
    items = sink.history(channel, limit=100).items
    assert all(item.ended for item in items)
    mine = next(item for item in items if item.id == "r")
    assert mine.text.startswith("text")
    sink.send_event(channel, "last")
    assert sink.flush(30)
    with sink.watch(channel, rewind="all") as watch:
        for event in watch:
            if isinstance(event, DataEvent) and event.name == "last":
                break
    return [
        (item.state, item.parts, item.tool_results, item.finish_reason, item.usage, item.error)
        for item in items
        if item.id == "r"
    ]
