"""Server-sent events, cut at any byte."""

from __future__ import annotations

from tokenwire_adapters._agents.wires.errors import UnreadableReply

__all__ = ["MAX_EVENT", "SseReader"]

MAX_EVENT = 32 * 1024 * 1024
"""Bytes of one event."""

_LINE_OVERHEAD = 64  # bytes that a line costs beside its text


class SseReader:
    """Splits a ``text/event-stream`` into events: pairs of the event's name and its data.

    Events without data are left out.
    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []  # pieces of a line whose end has not come
        self._data: list[bytes] = []
        self._name = ""
        self._line_size = 0
        self._data_size = 0
        self._skip_newline = False  # the last byte was a CR, which a LF may follow

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
            self._hold(data)
            return []
        lines = data.split(b"\n")
        if self._line:
            lines[0] = b"".join([*self._line, lines[0]])
            self._line, self._line_size = [], 0
        rest = lines.pop()
        events: list[tuple[str, bytes]] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._add(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                events += self._event()
            elif line.startswith(b"event:"):
                self._name = line[6:].strip().decode("utf-8", "replace")
        if rest:
            self._hold(rest)
        return events

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins an event."""
        return not (self._line or self._data or self._name or self._skip_newline)

    def flush(self) -> list[tuple[str, bytes]]:
        """The event that the body's end leaves open."""
        return self.feed(b"\n\n") if self._line or self._data else []

    def _hold(self, piece: bytes) -> None:
        """Take a piece of a line whose end has not come."""
        self._line_size += len(piece)
        self._line.append(piece)
        self._check_size()

    def _add(self, data: bytes) -> None:
        """Take a line of data."""
        self._data_size += len(data) + _LINE_OVERHEAD
        self._data.append(data)
        self._check_size()

    def _check_size(self) -> None:
        if self._line_size + self._data_size > MAX_EVENT:
            raise UnreadableReply("an event of the stream is too large to be read")

    def _event(self) -> list[tuple[str, bytes]]:
        data, name = self._data, self._name
        self._data, self._name, self._data_size = [], "", 0
        if not data:
            return []
        return [(name, data[0] if len(data) == 1 else b"\n".join(data))]
