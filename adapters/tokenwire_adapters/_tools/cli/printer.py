"""Prints events for people: the text as it comes, whoever writes it."""

from __future__ import annotations

import re
from typing import Any, TextIO

import msgspec

from tokenwire.events import (
    DataEvent,
    DeltaEvent,
    EndEvent,
    Event,
    InputEvent,
    Part,
    PartEvent,
    Response,
    SnapshotEvent,
    StartEvent,
    ToolResultEvent,
)
from tokenwire.response import overlap

__all__ = ["Printer", "as_text", "harmless"]

# Text from a model must not steer the terminal: no escape sequences, no other control characters.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\r(?!\n)")
_DIM, _BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def harmless(text: str) -> str:
    """Replace control characters but line feed and tab by U+FFFD."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


class Printer:
    """Writes the text of responses as it comes, each character once.

    :param colours: whether the terminal understands them.
    """

    def __init__(self, out: TextIO, *, colours: bool) -> None:
        self._out = out
        self._colours = colours
        self._printed: dict[tuple[str, int], int] = {}
        self._kinds: dict[tuple[str, int], str] = {}
        self._ended: set[str] = set()
        self._at: tuple[str, int] | None = None
        self._fresh_line = True

    def show(self, event: Event) -> None:
        """Print what is new in an event."""
        if isinstance(event, DeltaEvent):
            self._text(event.response_id, event.part, event.kind, event.offset, event.text)
        elif isinstance(event, PartEvent):
            self._part(event.response_id, event.part, event.kind, event.name, event.data)
        elif isinstance(event, SnapshotEvent):
            self.show_response(event.response)
        elif isinstance(event, StartEvent):
            self._head(event.response_id, event.metadata)
        elif isinstance(event, EndEvent):
            self._end(event.response_id, event.state, event.error)
        elif isinstance(event, ToolResultEvent):
            answer = event.error or as_text(event.output)
            self._note(f"→ {event.name or event.call_id}: {answer}")
        elif isinstance(event, InputEvent):
            self._note(f"» {event.sender + ': ' if event.sender else ''}{as_text(event.data)}")
        elif isinstance(event, DataEvent):
            self._note(f"· {event.name}: {as_text(event.data)}")
        self._out.flush()

    def close(self) -> None:
        """Leave the cursor at the beginning of a line."""
        self._new_line()
        self._out.flush()

    def waiting(self, channel: str) -> None:
        """Say that nothing is there yet."""
        self._note(f"── waiting in {channel}")
        self._out.flush()

    def show_response(self, response: Response) -> None:
        """Print what is new in a response."""
        if not any(key[0] == response.id for key in self._printed):
            self._head(response.id, response.metadata)
        for number, part in enumerate(response.parts):
            self._whole_part(response.id, number, part)
        if response.ended:
            self._end(response.id, response.state, response.error)

    def _whole_part(self, response_id: str, number: int, part: Part) -> None:
        self._part(response_id, number, part.kind, part.name, part.data)
        self._text(response_id, number, part.kind, 0, part.text)

    def _part(self, response_id: str, number: int, kind: str, name: str | None, data: Any) -> None:
        key = (response_id, number)
        if key in self._kinds:
            return
        self._kinds[key] = kind
        if kind == "tool_call":
            self._switch(key, kind)
            self._write(f"{name or 'tool'} ", _BOLD)
        elif data is not None:
            self._note(f"· {name or kind}: {as_text(data)}")

    def _text(self, response_id: str, number: int, kind: str, offset: int, text: str) -> None:
        key = (response_id, number)
        have = self._printed.get(key, 0)
        new = overlap(have, offset, text)
        if not new:
            return
        self._printed[key] = have + len(new)
        self._switch(key, kind)
        self._write(new, "" if kind == "text" else _DIM)

    def _switch(self, key: tuple[str, int], kind: str) -> None:
        """Begin a line where another part, or another response, goes on."""
        before, self._at = self._at, key
        if before == key:
            return
        if before is not None and (before[0] != key[0] or kind != "text" or before[1] != key[1]):
            self._new_line()
        if before is not None and before[0] != key[0] and self._printed.get(key):
            self._note(f"── {key[0]}, continued")

    def _head(self, response_id: str, metadata: dict[str, Any]) -> None:
        model = metadata.get("model")
        self._note(f"── {response_id}{f' · {model}' if model else ''}")

    def _end(self, response_id: str, state: str, error: str | None) -> None:
        if response_id in self._ended:
            return
        self._ended.add(response_id)
        self._note(f"── {state}{f': {error}' if error else ''}")

    def _note(self, text: str) -> None:
        self._new_line()
        self._write(text, _DIM)
        self._new_line()

    def _new_line(self) -> None:
        if not self._fresh_line:
            self._out.write("\n")
            self._fresh_line = True

    def _write(self, text: str, style: str) -> None:
        text = harmless(text)
        self._out.write(f"{style}{text}{_PLAIN}" if style and self._colours else text)
        self._fresh_line = text.endswith("\n")


def as_text(value: Any) -> str:
    """A value as it is shown: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
