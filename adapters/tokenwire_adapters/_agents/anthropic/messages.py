"""The Messages API of Anthropic: blocks that open, grow and close, one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from tokenwire import PartWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.values import dict_of, fields_of, list_of, name_of, to_json

__all__ = ["MessagesRecorder"]

_INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_DATA = ("fallback", "mcp_tool_listing")  # another model goes on; the tools a server offers
_SERVER_CALLS = ("server_tool_use", "mcp_tool_use")  # of tools that Anthropic runs
_CALLS = ("tool_use", *_SERVER_CALLS)
_NO_BLOCK = object()  # is no block's number


class MessagesRecorder(StainlessRecorder):
    """Reads raw message stream events, and whole messages; ``beta`` or not.

    Thinking is published as ``reasoning``; signatures and encrypted data are not published. The SDK
    does not validate what it reads: any field may be of any type, and one that cannot be read costs
    itself alone.
    https://docs.anthropic.com/en/docs/build-with-claude/streaming
    """

    provider = "anthropic"
    api = "messages"
    runs_all_tools = False  # whether who runs the model runs its tools, too

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._parts: dict[tuple[Any, str], PartWriter] = {}  # by block and kind
        self._inputs: dict[Any, Any] = {}  # of calls whose arguments have not come as text
        self._open: Any = _NO_BLOCK  # the one that `_write` writes
        self._write: Any = None
        self._before: dict[str, Any] = {}  # usage as the message began
        self._usage: dict[str, Any] | None = None
        self._reason: str | None = None
        self._is_whole = False

    def feed(self, item: Any) -> None:
        # The usual event takes the shortest way, past the slow attributes of Pydantic's models;
        # `read` takes every other one.
        try:
            fields = item.__dict__
            delta = fields["delta"].__dict__
            text = delta["text"]
            usual = (
                fields["index"] == self._open
                and fields["type"] == "content_block_delta"
                and delta["type"] == "text_delta"
                and type(text) is str
                and not self.ended
            )
        except Exception:
            usual, text = False, ""
        if usual:
            write = self._write  # to call the attribute would be to look for a method first
            write(text)
        else:
            super().feed(item)

    def feed_usual(self, item: Any) -> None:
        """Take a piece of text that `wires.usual_events` has decoded: its form is known."""
        if item.index == self._open and not self.ended:
            write = self._write
            write(item.delta.text)
        else:
            super().feed(item)

    def read(self, item: Any) -> None:
        kind = getattr(item, "type", None)
        if kind == "content_block_delta":
            delta = getattr(item, "delta", None)
            if getattr(delta, "type", None) == "text_delta":
                index = _place(item)
                text = getattr(delta, "text", None)
                if index == self._open and type(text) is str:
                    self._write(text)
                else:
                    self._grow(index, "text", text)
            else:
                self._delta(_place(item), delta)
        elif kind == "content_block_start":
            self._start(_place(item), getattr(item, "content_block", None))
        elif kind == "content_block_stop":
            self._stop(_place(item))
        elif kind == "message_start":
            usage = fields_of(getattr(item, "message", None)).get("usage")
            self._before = dict_of(to_json(usage))
        elif kind == "message_delta":
            self._message_delta(item)
        elif kind == "message_stop":
            self._is_whole = True
            self.end()

    def feed_reply(self, reply: Any) -> None:
        self._is_whole = True
        for index, block in enumerate(list_of(getattr(reply, "content", None))):
            self._start(index, block)
            self._stop(index)
        self._reason = name_of(getattr(reply, "stop_reason", None)) or None
        self._usage = dict_of(to_json(getattr(reply, "usage", None))) or None

    def flush(self) -> None:
        for index in list(self._inputs):
            self._stop(index)

    def finish(self) -> None:
        self.flush()
        self.end_writer(self.writer(0), self._reason, None, is_whole=self._is_whole)

    def usage(self) -> dict[str, Any] | None:
        return self._usage

    def finish_reason(self, index: int) -> str | None:
        return self._reason if index == 0 else None

    def _grow(self, index: Any, kind: str, text: Any) -> None:
        if not text or not isinstance(text, str):
            return
        part = self._parts.get((index, kind))
        if part is None:
            part = self._parts[index, kind] = self.writer(0).part(kind, text=text)
        else:
            part.write(text)
        if kind == "text":
            self._open, self._write = index, part.write

    def _delta(self, index: Any, delta: Any) -> None:
        fields = fields_of(delta)
        kind = fields.get("type")
        if kind == "input_json_delta":
            self._input(index, fields.get("partial_json"))
        elif kind == "thinking_delta":
            self._grow(index, "reasoning", fields.get("thinking"))
        elif kind == "citations_delta":
            self._source(fields.get("citation"))

    def _input(self, index: Any, arguments: Any) -> None:
        """Take a piece of a call's arguments, or all of them as an object."""
        part = self._parts.get((index, "tool_call"))
        if part is None or not arguments:
            return
        if isinstance(arguments, str):
            self._inputs.pop(index, None)
            part.write(arguments)
        elif index in self._inputs:  # else some have come as text
            self._inputs[index] = arguments

    def _start(self, index: Any, block: Any) -> None:
        fields = fields_of(block)
        kind = name_of(fields.get("type"))
        if kind == "text":
            self._parts.pop((index, "text"), None)
            self._open = _NO_BLOCK
            self._grow(index, "text", fields.get("text"))
            for citation in list_of(fields.get("citations")):
                self._source(citation)
        elif kind == "thinking":
            self._parts.pop((index, "reasoning"), None)
            self._grow(index, "reasoning", fields.get("thinking"))
        elif kind in _CALLS:
            self._stop(index)
            name, call_id = name_of(fields.get("name")), name_of(fields.get("id"))
            self._parts[index, "tool_call"] = self.writer(0).part(
                "tool_call",
                name=name or None,
                call_id=call_id or None,
                provider_executed=self.runs_all_tools or kind in _SERVER_CALLS,
            )
            self._inputs[index] = fields.get("input")
        elif kind.endswith("_tool_result"):
            self._answer(fields)
        elif kind == "container_upload":
            self.writer(0).part("file", name=kind, data=to_json(block))
        elif kind in _DATA:
            self.writer(0).part("data", name=kind, data=_readable(to_json(block)))

    def _stop(self, index: Any) -> None:
        """A call's arguments that came whole, as some servers send them, are written now."""
        arguments = self._inputs.pop(index, None)
        if arguments is not None:
            if not isinstance(arguments, str):
                arguments = json.dumps(to_json(arguments), ensure_ascii=False, default=str)
            self._parts[index, "tool_call"].write(arguments)

    def _answer(self, block: Mapping[str, Any]) -> None:
        """Publish the result of a tool that the provider ran."""
        call_id = name_of(block.get("tool_use_id"))
        if not call_id:
            return
        content: Any = block.get("content")
        content = [to_json(item) for item in list_of(content)] or to_json(content)
        error: str | None = None
        if isinstance(content, Mapping):
            error = name_of(cast("Mapping[str, Any]", content).get("error_code")) or None
        elif block.get("is_error"):
            error = "the tool failed"
        self.writer(0).tool_result(call_id, _readable(content), error=error)

    def _source(self, citation: Any) -> None:
        data = _readable(to_json(citation))
        if isinstance(data, dict):
            self.writer(0).part("source", data=cast("dict[str, Any]", data))

    def _message_delta(self, event: Any) -> None:
        delta = fields_of(getattr(event, "delta", None))
        self._reason = name_of(delta.get("stop_reason")) or self._reason
        usage = dict_of(to_json(getattr(event, "usage", None)))
        # Older servers send the input side only when the message begins.
        began = {key: self._before[key] for key in _INPUT_COUNTS if key in self._before}
        known = {k: value for k, value in usage.items() if value is not None or k not in began}
        self._usage = {**began, **known}
        if self._reason is not None:
            self.settle_later(event)


def _place(event: Any) -> Any:
    """Which block an event is about; None where it does not say."""
    index = getattr(event, "index", None)
    return index if type(index) is int else None


def _readable(value: Any) -> Any:
    """`value` without what only the provider can read."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {key: _readable(item) for key, item in items if not key.startswith("encrypted_")}
    if isinstance(value, list):
        return [_readable(item) for item in cast("list[Any]", value)]
    return value
