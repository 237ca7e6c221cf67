"""JSON that comes in pieces: lines of it, an array, or one value."""

from __future__ import annotations

import re

from tokenwire_adapters._agents.wires.errors import UnreadableReply

__all__ = ["MAX_REPLY", "ArrayReader", "LineReader", "WholeReader"]

MAX_REPLY = 32 * 1024 * 1024
"""Bytes of one line, of one item of an array, or of one whole reply."""

_STRUCTURE = re.compile(rb'["{}\[\],]')
_IN_STRING = re.compile(rb'["\\]')


class _Pieces:
    """Bytes that have come and are not used yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def __bool__(self) -> bool:
        return self._size > 0

    def add(self, data: bytes) -> None:
        """Take more.

        :raises UnreadableReply: beyond `MAX_REPLY`.
        """
        self._size += len(data)
        if self._size > MAX_REPLY:
            raise UnreadableReply("the reply is too large to be read")
        self._pieces.append(data)

    def take(self) -> bytes:
        """All of them."""
        data = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return data


class LineReader:
    """Splits newline-delimited JSON; empty lines are left out."""

    def __init__(self) -> None:
        self._rest = _Pieces()

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The lines that are complete with `data`, each with an empty name.

        :raises UnreadableReply: for a line larger than `MAX_REPLY`.
        """
        if b"\n" not in data:
            self._rest.add(data)
            return []
        first, *lines = data.split(b"\n")
        self._rest.add(first)
        lines.insert(0, self._rest.take())
        self._rest.add(lines.pop())
        return [("", line) for line in lines if line.strip()]

    def flush(self) -> list[tuple[str, bytes]]:
        """The line that the body's end leaves open."""
        return self.feed(b"\n")


class WholeReader:
    """Collects a reply that is one JSON value."""

    def __init__(self) -> None:
        self._body = _Pieces()

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Collect `data`; nothing is complete before the end.

        :raises UnreadableReply: for a body larger than `MAX_REPLY`.
        """
        self._body.add(data)
        return []

    def flush(self) -> list[tuple[str, bytes]]:
        """The whole body, with an empty name."""
        return [("", self._body.take())] if self._body else []


class ArrayReader:
    """Splits a JSON array into its items, as soon as each is complete."""

    def __init__(self) -> None:
        self._item = _Pieces()
        self._depth = 0  # of containers, the array being the first
        self._in_string = False
        self._is_escaped = False  # the last byte was a backslash in a string

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The objects and arrays that are complete with `data`, each with an empty name.

        :raises UnreadableReply: for an item larger than `MAX_REPLY`.
        """
        items: list[tuple[str, bytes]] = []
        start = position = 0  # `start`: where what belongs to an item begins
        if self._is_escaped and data:
            self._is_escaped = False
            position = 1
        while match := (
            _IN_STRING.search(data, position)
            if self._in_string
            else _STRUCTURE.search(data, position)
        ):
            position = match.end()
            byte = match[0]
            if self._in_string:
                if byte == b'"':
                    self._in_string = False
                elif position == len(data):
                    self._is_escaped = True
                else:
                    position += 1
            elif byte == b'"':
                self._in_string = True
            elif byte in b"[{":
                self._depth += 1
                if self._depth == 2:
                    start = match.start()
            elif byte in b"]}":
                self._depth -= 1
                if self._depth == 1:
                    self._item.add(data[start:position])
                    items.append(("", self._item.take()))
                    start = position
        if self._depth > 1:
            self._item.add(data[start:])
        return items

    def flush(self) -> list[tuple[str, bytes]]:
        """An item that is cut is none."""
        return []
