"""The Messages API of Anthropic: blocks that open, grow and close, one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from tokenwire import PartWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder, to_json

__all__ = ["MessagesRecorder"]

_CUT_OFF = "the stream ended before the message was complete"
_INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_DATA = ("fallback", "mcp_tool_listing")  # another model goes on; the tools a server offers
_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")


class MessagesRecorder(StainlessRecorder):
    """Reads raw message stream events, and whole messages; ``beta`` or not.

    Thinking is published as ``reasoning``; signatures and encrypted data are not published.
    https://docs.anthropic.com/en/docs/build-with-claude/streaming
    """

    provider = "anthropic"
    api = "messages"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._parts: dict[int, PartWriter] = {}
        self._inputs: dict[int, Any] = {}  # of calls whose arguments have not come as text
        self._open: int | None = None  # the block that `_write` writes
        self._write: Any = None
        self._before: dict[str, Any] = {}  # usage as the message began
        self._usage: dict[str, Any] | None = None
        self._reason: str | None = None

    def feed(self, item: Any) -> None:
        kind = item.type
        if kind == "content_block_delta":
            delta = item.delta
            if delta.type == "text_delta":
                index = item.index
                if index == self._open:
                    self._write(delta.text)
                else:
                    self._grow(index, "text", delta.text)
            else:
                self._delta(item.index, delta)
        elif kind == "content_block_start":
            self._start(item.index, item.content_block)
        elif kind == "content_block_stop":
            self._stop(item.index)
        elif kind == "message_start":
            self._before = to_json(item.message.usage) or {}
        elif kind == "message_delta":
            self._message_delta(item)
        elif kind == "message_stop":
            self.end()

    def feed_reply(self, reply: Any) -> None:
        for index, block in enumerate(reply.content):
            self._start(index, block)
            self._stop(index)
        self._reason = reply.stop_reason
        self._usage = to_json(reply.usage)

    def finish(self) -> None:
        if self._reason is None:
            self.writer(0).fail(_CUT_OFF, usage=self._usage)
        else:
            self.writer(0).finish(self._reason, self._usage)

    def usage(self) -> dict[str, Any] | None:
        return self._usage

    def finish_reason(self, index: int) -> str | None:
        return self._reason if index == 0 else None

    def _grow(self, index: int, kind: str, text: str | None) -> None:
        if not text:
            return
        part = self._parts.get(index)
        if part is None:
            part = self._parts[index] = self.writer(0).part(kind, text=text)
        else:
            part.write(text)
        if kind == "text":
            self._open, self._write = index, part.write

    def _delta(self, index: int, delta: Any) -> None:
        kind = delta.type
        if kind == "input_json_delta":
            part = self._parts.get(index)
            if part is not None and delta.partial_json:
                self._inputs.pop(index, None)
                part.write(delta.partial_json)
        elif kind == "thinking_delta":
            self._grow(index, "reasoning", delta.thinking)
        elif kind == "citations_delta":
            self._source(delta.citation)

    def _start(self, index: int, block: Any) -> None:
        kind: str = block.type
        if kind == "text":
            self._grow(index, "text", block.text)
            for citation in getattr(block, "citations", None) or ():
                self._source(citation)
        elif kind == "thinking":
            self._grow(index, "reasoning", block.thinking)
        elif kind in _CALLS:
            self._parts[index] = self.writer(0).tool_call(block.name, block.id)
            self._inputs[index] = block.input
        elif kind.endswith("_tool_result"):
            self._answer(block)
        elif kind == "container_upload":
            self.writer(0).part("file", name=kind, data=to_json(block))
        elif kind in _DATA:
            self.writer(0).part("data", name=kind, data=_readable(to_json(block)))

    def _stop(self, index: int) -> None:
        """A call's arguments that came whole, as some servers send them, are written now."""
        arguments = self._inputs.pop(index, None)
        if arguments is not None:
            if not isinstance(arguments, str):
                arguments = json.dumps(to_json(arguments), ensure_ascii=False)
            self._parts[index].write(arguments)

    def _answer(self, block: Any) -> None:
        """Publish the result of a tool that the provider ran."""
        content = to_json(block).get("content")
        failed = getattr(block, "is_error", False)
        error: str | None = None
        if isinstance(content, Mapping):
            code = cast("Mapping[str, Any]", content).get("error_code")
            error = code if isinstance(code, str) else None
        elif failed:
            error = "the tool failed"
        self.writer(0).tool_result(block.tool_use_id, _readable(content), error=error)

    def _source(self, citation: Any) -> None:
        self.writer(0).part("source", data=_readable(to_json(citation)))

    def _message_delta(self, event: Any) -> None:
        self._reason = event.delta.stop_reason or self._reason
        usage: dict[str, Any] = to_json(event.usage) or {}
        # Older servers send the input side only when the message begins.
        began = {key: self._before[key] for key in _INPUT_COUNTS if key in self._before}
        known = {k: value for k, value in usage.items() if value is not None or k not in began}
        self._usage = {**began, **known}
        if self._reason is not None:
            self.settle_later(event)


def _readable(value: Any) -> Any:
    """`value` without what only the provider can read."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {key: _readable(item) for key, item in items if not key.startswith("encrypted_")}
    if isinstance(value, list):
        return [_readable(item) for item in cast("list[Any]", value)]
    return value
