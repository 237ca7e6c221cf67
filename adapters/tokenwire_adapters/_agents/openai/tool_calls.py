"""The tool calls of one choice of Chat Completions, told apart and put together from deltas."""

from __future__ import annotations

from typing import Any

from tokenwire import PartWriter, ResponseWriter
from tokenwire_adapters._agents.values import (
    arguments_of,
    fields_of,
    index_of,
    join_text,
    list_of,
    name_of,
)

__all__ = ["ToolCall", "ToolCallReader"]


class ToolCall:
    """A tool call that grows. It begins in the channel once its name is complete.

    :ivar provider_executed: the provider runs the tool itself.
    :ivar filled: some arguments have come.
    :ivar whole: arguments that came as an object. They may be a mere placeholder, or all there is
        so far, so they are written when the call is over and no text of them has come.
    """

    __slots__ = ("_pieces", "call_id", "filled", "name", "part", "provider_executed", "whole")

    def __init__(self) -> None:
        self.call_id: str | None = None
        self.name = ""
        self._pieces: list[str] = []
        self.filled = False
        self.provider_executed = False
        self.whole: Any = None
        self.part: PartWriter | None = None

    def add_name(self, piece: str) -> None:
        """Take a piece of the name; some servers send the whole name again, or all so far."""
        if piece.startswith(self.name):
            self.name = piece
        elif not self.filled and self.part is None:
            self.name += piece

    def add_arguments(self, arguments: Any) -> None:
        """Take a piece of the arguments, or all of them as an object."""
        if arguments is None or arguments == "":
            return
        self.filled = True
        if not isinstance(arguments, str):
            self.whole = arguments
            return
        self.whole = None
        self._pieces.append(arguments)
        if self.part is not None:
            self.part.write(arguments)

    @property
    def arguments(self) -> str:
        """The arguments so far, as text."""
        return join_text(self._pieces)

    def begin(self, writer: ResponseWriter) -> None:
        """Begin the call's part; idempotent."""
        if self.part is None:
            self.part = writer.part(
                "tool_call",
                name=self.name or None,
                call_id=self.call_id,
                text=self.arguments,
                provider_executed=self.provider_executed,
            )

    def finish(self, writer: ResponseWriter) -> None:
        """Write what was held back."""
        self.begin(writer)
        if self.whole is not None and self.part is not None:
            self.add_arguments(arguments_of(self.whole))


class ToolCallReader:
    """Reads the tool calls in deltas, and in whole messages.

    :ivar naming: the call whose name may go on with the next delta.
    """

    __slots__ = ("_by_key", "_calls", "_writer", "naming")

    def __init__(self, writer: ResponseWriter) -> None:
        self._writer = writer
        self._by_key: dict[int | str, ToolCall] = {}
        self._calls: list[ToolCall] = []
        self.naming: ToolCall | None = None

    def read(self, place: int, delta: Any) -> None:
        """Read what a delta says of the call at `place` of its list."""
        fields = fields_of(delta)
        if not fields:
            return
        index = index_of(fields.get("index"))
        body = fields_of(fields.get("function") or fields.get("custom"))
        arguments = body.get("arguments")
        self._read(
            place if index is None else index,
            name_of(fields.get("id")),
            name_of(body.get("name")),
            body.get("input") if arguments is None else arguments,
        )

    def read_function(self, delta: Any) -> None:
        """Read a ``function_call``, of which there is one at most: an older form of a tool call."""
        body = fields_of(delta)
        if body:
            self._read("function_call", "", name_of(body.get("name")), body.get("arguments"))

    def _read(self, key: int | str, call_id: str, name: str, arguments: Any) -> None:
        call = self._by_key.get(key)
        if call is None or (name and _is_another(call, call_id)):
            self._begin_all()
            call = self._by_key[key] = ToolCall()
            self._calls.append(call)
            self.naming = call
        call.call_id = call.call_id or call_id or None
        if name:
            call.add_name(name)
        call.add_arguments(arguments)
        if call.name and call.filled:
            self._begin_all()

    def begin_named(self, delta: Any) -> None:
        """Begin the call whose name was growing, unless `delta` may go on with that."""
        calls = list_of(getattr(delta, "tool_calls", None))
        if not any(fields_of(fields_of(call).get("function")).get("name") for call in calls):
            self._begin_all()

    def _begin_all(self) -> None:
        """Begin the calls whose names are known, in their order."""
        self.naming = None
        for call in self._calls:
            if call.name and call.part is None:
                call.begin(self._writer)

    def finish(self) -> None:
        """No more deltas come: begin calls that got no name, and write what was held back."""
        self.naming = None
        for call in self._calls:
            call.finish(self._writer)


def _is_another(call: ToolCall, call_id: str) -> bool:
    """Say whether what begins with a name is not the call that has its index.

    Some servers give every call the index 0: another id and a name begin another call, and so does
    a name where the call before it came whole and neither has an id.
    """
    if call_id and call.call_id:
        return call_id != call.call_id
    return not call_id and not call.call_id and bool(call.name and call.filled)
