"""What rows hold: events with their cursors, and responses that are folded from them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec.structs import force_setattr

from tokenwire.errors import DecodeError, GapError
from tokenwire.events import (
    Event,
    SnapshotEvent,
    decode_msgpack_batch,
    decode_msgpack_each,
    encode_msgpack_batch,
)
from tokenwire.response import Assembler

__all__ = ["Skip", "cursor_of", "decode_entry", "load_responses", "store_body"]

Skip: TypeAlias = Callable[[str, object], None]
"""Is called, with a place and an error, for what is skipped since it cannot be read."""


def cursor_of(epoch: str, number: int) -> str:
    """The cursor of an event; `tokenwire._memory.channel.parse_cursor` takes it apart."""
    return f"{epoch}-{number}"


def decode_entry(events: bytes, last: int, epoch: str, skip: Skip) -> list[Event]:
    """Decode a row of the log into events with cursors, without what is no event.

    :param last: the number of its last event.
    """
    try:
        decoded = decode_msgpack_each(events)
    except DecodeError as error:
        skip("the log", error)
        return []
    readable: list[Event] = []
    for number, event in enumerate(decoded, last - len(decoded) + 1):
        if isinstance(event, DecodeError):
            skip("the log", event)
        else:
            force_setattr(event, "cursor", cursor_of(epoch, number))
            readable.append(event)
    return readable


def store_body(db: sqlite3.Connection, number: int, assembler: Assembler) -> int:
    """Store a response as it is now; return how many bytes that takes."""
    snapshot = encode_msgpack_batch([SnapshotEvent(response=assembler.response)])
    db.execute("INSERT OR REPLACE INTO bodies VALUES (?, ?)", (number, snapshot))
    return len(snapshot)


def load_responses(
    db: sqlite3.Connection, channel: int, name: str, rows: Iterable[tuple[str, int, int, bool]]
) -> dict[str, Assembler | Exception]:
    """Fold responses of one channel from their bodies, and the rest from the log.

    :param rows: the columns `id`, `number`, `folded`, and whether the response is streaming.
    :return: by id; an error in the place of what is damaged.
    """
    loaded: dict[str, Assembler | Exception] = {}
    folded_up_to: dict[str, int] = {}
    for id_, number, folded, streaming in rows:
        loaded[id_] = Assembler(id_)
        body = db.execute("SELECT snapshot FROM bodies WHERE response = ?", (number,)).fetchone()
        if body is not None:
            loaded[id_] = _fold(loaded[id_], body[0], name)
        if streaming:
            folded_up_to[id_] = folded
    if folded_up_to:
        rest = db.execute(
            "SELECT response, last, events FROM log WHERE channel = ? AND last > ? ORDER BY last",
            (channel, min(folded_up_to.values())),
        )
        for id_, last, events in rest:
            if last > folded_up_to.get(id_, last):
                loaded[id_] = _fold(loaded[id_], events, name)
    for id_, state in loaded.items():
        if isinstance(state, Assembler) and state.state is None:
            loaded[id_] = GapError(f"response {id_!r} has no beginning", response_id=id_)
    return loaded


def _fold(state: Assembler | Exception, events: bytes, name: str) -> Assembler | Exception:
    if isinstance(state, Assembler):
        try:
            for event in decode_msgpack_batch(events):
                state.apply(event, channel=name)
        except (DecodeError, GapError) as error:
            return error
    return state
