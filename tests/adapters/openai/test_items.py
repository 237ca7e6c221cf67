"""Items of a `Response` are told apart, however a server counts them and names them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.offline import openai_client
from tests.support.profile import chosen
from tests.support.sse import body, parts
from tokenwire import Sink
from tokenwire_adapters.openai import wrap

Event = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """An item of the response that the server streams."""

    kind: str
    pieces: tuple[str, ...]
    number: int

    @property
    def whole(self) -> Event:
        text = "".join(self.pieces)
        if self.kind == "message":
            content = [{"type": "output_text", "text": text, "annotations": []}]
            return {
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": content,
            }
        if self.kind == "reasoning":
            return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}
        call = {"call_id": f"k{self.number}", "name": f"f{self.number}", "arguments": text}
        return {"type": "function_call", "status": "completed", **call}

    @property
    def begun(self) -> Event:
        empty = {"message": {"content": []}, "reasoning": {"summary": []}}
        return {**self.whole, **empty.get(self.kind, {"arguments": ""})}

    @property
    def part(self) -> tuple[str, ...]:
        text = "".join(self.pieces)
        if self.kind == "function_call":
            return ("tool_call", text, f"f{self.number}", f"k{self.number}")
        return ({"message": "text"}.get(self.kind, self.kind), text)

    def delta(self, piece: str) -> Event:
        names = {
            "message": ("output_text.delta", {"content_index": 0, "logprobs": []}),
            "reasoning": ("reasoning_summary_text.delta", {"summary_index": 0}),
            "function_call": ("function_call_arguments.delta", {}),
        }
        name, more = names[self.kind]
        return {"type": f"response.{name}", "delta": piece, **more}


def _told(*items: tuple[str, str]) -> list[Told]:
    return [Told(kind, tuple(text.split("|")), number) for number, (kind, text) in enumerate(items)]


TALKS = {
    "calls": _told(("function_call", '{"a":|0}'), ("function_call", '{"a":|1}')),
    "same calls": _told(("function_call", '{"a":|0}'), ("function_call", '{"a":|0}')),
    "messages": _told(("message", "fir|st"), ("message", "sec|ond")),
    "all": _told(
        ("reasoning", "H|m"),
        ("message", "Let me |look"),
        ("function_call", '{"a":|0}'),
        ("function_call", '{"b":|1}'),
        ("message", "Do|ne"),
    ),
}

PLACES: dict[str, Callable[[int, str], int | None]] = {
    "own": lambda number, _: number,
    "zero": lambda number, _: 0,
    "none": lambda number, _: None,
    "minus": lambda number, _: -1,
    "off": lambda number, what: number + (what == "done"),
}

_fresh = itertools.count()

IDS: dict[str, Callable[[int, str], str | None]] = {
    "stable": lambda number, _: f"i{number}",
    "not in deltas": lambda number, what: None if what == "delta" else f"i{number}",
    "none": lambda number, _: None,
    "fresh": lambda number, _: f"x{next(_fresh)}",
    "other in deltas": lambda number, what: f"{what == 'delta'}{number}",
    "constant": lambda number, _: "i",
}


def _one_by_one(items: list[Told]) -> Iterator[tuple[str, Told, str]]:
    for item in items:
        yield "added", item, ""
        for piece in item.pieces:
            yield "delta", item, piece
        yield "done", item, ""


def _added_first(items: list[Told]) -> Iterator[tuple[str, Told, str]]:
    for item in items:
        yield "added", item, ""
    for item in items:
        for piece in item.pieces:
            yield "delta", item, piece
        yield "done", item, ""


def _interleaved(items: list[Told]) -> Iterator[tuple[str, Told, str]]:
    for item in items:
        yield "added", item, ""
    for number in range(2):
        for item in items:
            yield "delta", item, item.pieces[number]
    for item in reversed(items):
        yield "done", item, ""


ORDERS = {"one by one": _one_by_one, "added first": _added_first, "interleaved": _interleaved}
LEFT_OUT = ["", "added", "done", "output"]

Case = tuple[str, str, str, str, str]


def _can_be_told(case: Case) -> bool:
    """Whether the events say enough at all."""
    _, order, place, ids, left_out = case
    is_shared = place in ("zero", "none", "minus")
    if order == "interleaved" and is_shared:
        return ids == "stable" and left_out != "added"
    if order == "added first" and is_shared and left_out == "done":
        return ids == "stable"
    if ids == "constant":
        if is_shared:
            return order == "one by one" and left_out != "done"
        return order != "interleaved" or left_out != "added"
    return True


CASES = [
    case for case in itertools.product(TALKS, ORDERS, PLACES, IDS, LEFT_OUT) if _can_be_told(case)
]


def _stream(case: Case) -> list[Event]:
    talk, order, place, ids, left_out = case
    items = TALKS[talk]
    response = {"id": "r", "object": "response", "created_at": 1, "model": "m", "tools": []}
    events: list[Event] = [{"type": "response.created", "response": {**response, "output": []}}]
    for what, item, piece in ORDERS[order](items):
        placed = PLACES[place](item.number, what)
        item_id = IDS[ids](item.number, what)
        if what == left_out:
            continue
        if what == "delta":
            events.append({**item.delta(piece), "item_id": item_id, "output_index": placed})
        else:
            whole = {"id": item_id, **(item.whole if what == "done" else item.begun)}
            name = f"response.output_item.{what}"
            events.append({"type": name, "output_index": placed, "item": whole})
    output = [{"id": IDS[ids](item.number, "output"), **item.whole} for item in items]
    ended = {**response, "status": "completed", "output": [] if left_out == "output" else output}
    events.append({"type": "response.completed", "response": ended})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _read(sink: Sink, events: list[Event]) -> Any:
    with openai_client(body(*events, named=True)) as client:
        wrap(client, sink, channel="c")
        list(client.responses.create(model="m", input="x", stream=True))
    return sink.history("c").items[0]


@pytest.mark.parametrize(
    "case",
    chosen(CASES, each=lambda case: case, pairs=lambda case: case),
    ids=lambda case: "-".join(case),
)
def test_items_are_told_apart(case: Case, sink: Sink) -> None:
    got = _read(sink, _stream(case))
    expected = [item.part for item in TALKS[case[0]]]
    assert sorted(parts(got)) == sorted(expected)
    if case[1] == "one by one":
        assert parts(got) == expected
    assert got.state == "complete"
