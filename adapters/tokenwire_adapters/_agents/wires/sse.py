"""Server-sent events, cut at any byte."""

from __future__ import annotations

from tokenwire_adapters._agents.wires.errors import UnreadableReply

__all__ = ["MAX_EVENT", "SseReader"]

MAX_EVENT = 32 * 1024 * 1024
"""Bytes of one event."""

_BOM = b"\xef\xbb\xbf"


class SseReader:
    """Splits a ``text/event-stream`` into events: pairs of the event's name and its data.

    Events without data are left out.
    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []  # pieces of a line whose end has not come
        self._data: list[bytes] = []
        self._name = ""
        self._size = 0  # of both
        self._skip_newline = False  # the last byte was a CR, which a LF may follow
        self._is_first = True

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that are complete with `data`.

        :raises UnreadableReply: for an event larger than `MAX_EVENT`.
        """
        if self._skip_newline and data:
            self._skip_newline = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._skip_newline = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in data:
            self._line.append(data)
            self._grow(len(data))
            return []
        lines = data.split(b"\n")
        if self._line:
            lines[0] = b"".join([*self._line, lines[0]])
        rest = lines.pop()
        self._line = [rest] if rest else []
        if self._is_first:
            self._is_first = False
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[tuple[str, bytes]] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                events += self._event()
            elif line.startswith(b"event:"):
                self._name = line[6:].strip().decode("utf-8", "replace")
            elif line == b"data":
                self._data.append(b"")
        self._size = 0
        self._grow(len(rest) + sum(map(len, self._data)))
        return events

    def flush(self) -> list[tuple[str, bytes]]:
        """The event that the body's end leaves open."""
        return self.feed(b"\n\n") if self._line or self._data else []

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EVENT:
            raise UnreadableReply("an event of the stream is too large to be read")

    def _event(self) -> list[tuple[str, bytes]]:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        if not data:
            return []
        return [(name, data[0] if len(data) == 1 else b"\n".join(data))]
