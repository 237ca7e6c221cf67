"""Entries that others write into a channel's keys: no event, damaged, or of a later version."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec

__all__ = ["POISON", "Write"]

Write: TypeAlias = Callable[[Any, str, Callable[[], dict[str, Any]]], None]
"""Writes with a synchronous client into a channel, given its base key and its fields."""

_pack = msgspec.msgpack.encode
_END = {"type": "end", "response_id": "r1", "state": "complete"}
_EVENTS: dict[str, Any] = {
    "no type": {"a": 1},
    "type of another type": {"type": 5},
    "unknown type": {"type": "later", "response_id": "r1", "x": 1},
    "unknown type, fields of other types": {"type": "later", "response_id": 5, "cursor": 7},
    "unknown state": {"type": "end", "response_id": "r1", "state": "paused"},
    "state of another type": {"type": "end", "response_id": "r1", "state": 1},
    "run of another type": {"type": "data", "name": "n", "run": 5},
    "name of another type": {"type": "data", "name": 5},
    "response of another type": {"type": "data", "name": "n", "response_id": {"a": 1}},
    "negative offset": {
        "type": "delta",
        "response_id": "r1",
        "part": 0,
        "kind": "text",
        "offset": -3,
        "text": "x",
    },
    "negative part": {"type": "part", "response_id": "x1", "part": -1, "kind": "text"},
    "huge part": {
        "type": "delta",
        "response_id": "x2",
        "part": 2**40,
        "kind": "text",
        "offset": 0,
        "text": "x",
    },
    "delta of nothing": {
        "type": "delta",
        "response_id": "x3",
        "part": 0,
        "kind": "text",
        "offset": 5,
        "text": "x",
    },
    "end of nothing": {**_END, "response_id": "x4"},
    "snapshot without a response": {"type": "snapshot"},
    "snapshot of another type": {"type": "snapshot", "response": 5},
    "snapshot in an unknown state": {
        "type": "snapshot",
        "response": {"id": "x5", "state": "paused"},
    },
    "usage of another type": {**_END, "usage": [1]},
    "metadata of another type": {"type": "start", "response_id": "x6", "metadata": 5},
    "cancel of nothing": {"type": "cancel"},
    "input without a name": {"type": "input", "data": 1},
    "a list": [1, 2],
    "a number": 5,
    "nothing": None,
}
_BATCHES: dict[str, bytes] = {
    **{f"event: {name}": _pack([event]) for name, event in _EVENTS.items()},
    "empty": b"",
    "not msgpack": b"\xc1\xff\x00",
    "text": b"hello",
    "cut": _pack([_END])[:-3],
    "more behind it": _pack([_END]) + b"\x00",
    "a map in place of a list": _pack(_END),
    "a string of bad utf-8": b"\x91\x82\xa4type\xa4data\xa4name\xa2\xff\xfe",
    "nested deep": b"\x91" * 50_000,
    "good and bad": _pack([{"type": "data", "name": "good"}, {"type": "data", "name": 5}]),
    "an empty list": _pack([]),
    "a huge length": b"\xdd\xff\xff\xff\xff",
}
_FIELDS: dict[str, tuple[str, bytes]] = {
    "state: unknown": ("state", b"paused"),
    "state: no text": ("state", b"\xff"),
    "last: no cursor": ("last", b"x"),
    "last: far ahead": ("last", b"9999999999999999-0-0"),
    "last: no text": ("last", b"\xff"),
    "first: no cursor": ("first", b"1-2"),
    "size: no number": ("size", b"many"),
    "size: another": ("size", b"3"),
    "number: no number": ("number", b"x"),
    "records: no number": ("records", b"x"),
    "records: too many": ("records", b"400000000000"),
    "run: no number": ("run", b"x"),
    "run_at: far": ("run_at", b"99999"),
    "results: no number": ("results", b"x"),
    "result: no event": ("result:c", b"\x00\x00\x00\x01garbage"),
    "result: empty": ("result:c", b""),
    "name: no text": ("\udcff\udcfe", b"x"),
    "seq: no number": ("seq", b"x"),
    "cancel: no event": ("cancel", b"garbage"),
}


def _message(first: str, before: str, kind: bytes = b"r", payload: bytes | None = None) -> Any:
    body = _pack([{"type": "data", "name": "forged"}]) if payload is None else payload
    return b" ".join((first.encode(), before.encode(), kind, body))


def _messages(head: str, born: str) -> Iterator[tuple[str, bytes]]:
    """Messages of a channel with this head, some of them well-formed."""
    yield "empty", b""
    yield "text", b"hello"
    yield "no text", b"\xff\xff \xff r x"
    yield "no cursor", _message("x", head)
    yield "no cursor before", _message("9-0-0", "x")
    yield "cursor before it after it", _message("9-0-0", "10-0-0")
    yield "unknown kind", _message("9999999999999-0-0", head, b"q")
    for log in ("", f"-{born}", "-1-0"):
        for payload in (None, b"\xc1", b"", _pack([{"type": "end"}])):
            name = f"log {log!r}, payload {payload!r}"
            yield f"ahead, {name}", _message(f"9999999999999-0-0{log}", head, payload=payload)
            before = "9999999999998-0-0"
            yield f"all ahead, {name}", _message(f"9999999999999-0-0{log}", before, payload=payload)
            yield f"past, {name}", _message(f"5-0-0{log}", "4-0-0", payload=payload)
            yield f"first, {name}", _message(f"9999999999997-0-0{log}", "0-0-0", payload=payload)


def _in_stream(part: str, entry_id: str, payload: bytes) -> Write:
    return lambda client, base, _: client.xadd(base + part, {"e": payload}, id=entry_id)


def _published(part: str, name: str) -> Write:
    def write(client: Any, base: str, meta: Callable[[], dict[str, Any]]) -> None:
        fields = meta()
        client.publish(base + part, dict(_messages(fields["head"], fields["born"]))[name])

    return write


def _field(name: str, value: bytes) -> Write:
    return lambda client, base, _: client.hset(
        f"{base}:r:bad", name.encode(errors="surrogateescape"), value
    )


def _dead(name: str, value: bytes) -> Write:
    """Damage a response that streams, and whose producer died: readers are to end it."""

    def write(client: Any, base: str, _: Callable[[], dict[str, Any]]) -> None:
        client.hset(f"{base}:r:bad", "state", "streaming")
        client.hset(f"{base}:r:bad", name.encode(errors="surrogateescape"), value)
        client.zadd(f"{base}:open", {"bad": 1})

    return write


def _command(*command: Any) -> Write:
    return lambda client, base, _: client.execute_command(
        command[0], command[1].replace("BASE", base), *command[2:]
    )


POISON: dict[str, Write] = {
    **{f"log, {name}": _in_stream(":log", "*", batch) for name, batch in _BATCHES.items()},
    **{
        f"log ahead, {name}": _in_stream(":log", "9999999999999-5", batch)
        for name, batch in _BATCHES.items()
        if "event" not in name
    },
    **{f"singles, {name}": _in_stream(":singles", "*", batch) for name, batch in _BATCHES.items()},
    "singles ahead": _in_stream(":singles", "9999999999999-5", _pack([_END])),
    "singles at the end": _in_stream(":singles", f"{2**64 - 1}-{2**64 - 1}", b"x"),
    "log at the end": _in_stream(":log", f"{2**64 - 1}-{2**64 - 1}", b"x"),
    "log, other fields": lambda client, base, _: client.xadd(base + ":log", {"x": "y", "z": "w"}),
    **{f"live, {name}": _published(":live", name) for name, _ in _messages("1-0-0", "1-0")},
    **{f"control, {name}": _published(":control", name) for name, _ in _messages("1-0-0", "1-0")},
    **{f"hash, {name}": _field(*field) for name, field in _FIELDS.items()},
    **{f"dead, {name}": _dead(*field) for name, field in _FIELDS.items()},
    "dead, ttl: no number": _dead("ttl", b"x"),
    "dead, fence only": _dead("fence", b"x"),
    "text, no batch": _command("SET", "BASE:t:bad", b"garbage"),
    "text, empty": _command("SET", "BASE:t:bad", b""),
    "text, of another type": _command("SADD", "BASE:t:other", b"x"),
    "open, of nothing": _command("ZADD", "BASE:open", 1, b"ghost"),
    "open, no text": _command("ZADD", "BASE:open", 1, b"\xff\xfe"),
    "starts, of nothing": _command("ZADD", "BASE:starts", 99, b"\xff"),
    "ends, of nothing": _command("ZADD", "BASE:ends", 10**16, b"ghost"),
    "cancels, no event": _command("HSET", "BASE:cancels", b"r-next", b"garbage"),
    "keys, no cursor": _command("HSET", "BASE:keys", b"input:i", b"\xff"),
}
"""What is written, by where and what it is."""
