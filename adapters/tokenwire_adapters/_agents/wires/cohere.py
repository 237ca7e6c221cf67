"""Cohere's chat API, version 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenwire import PartWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.values import (
    fields_of,
    list_of,
    name_of,
    provider_message,
    str_of,
)
from tokenwire_adapters._agents.wires.json_recorder import JsonRecorder

__all__ = ["CohereRecorder"]

_FAILED = frozenset({"ERROR", "TIMEOUT"})


class CohereRecorder(JsonRecorder):
    """Reads the events of a ``/v2/chat`` stream, and whole replies.

    Thinking and the plan before tool calls are published as ``reasoning``, citations as sources.
    https://docs.cohere.com/v2/reference/chat-stream
    """

    provider = "cohere"
    api = "chat"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._calls: dict[Any, PartWriter] = {}

    def read(self, item: Any) -> None:
        fields = fields_of(item)
        kind = fields.get("type")
        delta = fields_of(fields.get("delta"))
        message = fields_of(delta.get("message"))
        if kind in ("content-delta", "content-start"):
            self._content(message.get("content"))
        elif kind == "tool-plan-delta":
            self.write(message.get("tool_plan"), "reasoning")
        elif kind == "tool-call-start":
            self._call_start(_key(fields), message.get("tool_calls"))
        elif kind == "tool-call-delta":
            call = self._calls.get(_key(fields))
            function = fields_of(fields_of(message.get("tool_calls")).get("function"))
            if call is not None and str_of(function.get("arguments")):
                call.write(function["arguments"])
        elif kind == "citation-start":
            self.source(message.get("citations"))
        elif kind == "message-end":
            self._message_end(delta)
            self.end()

    def feed_reply(self, reply: Any) -> None:
        self.is_whole = True
        fields = fields_of(reply)
        message = fields_of(fields.get("message"))
        self.write(message.get("tool_plan"), "reasoning")
        content = message.get("content")
        for block in list_of(content) or [content]:
            self._content(block)
        for number, call in enumerate(list_of(message.get("tool_calls"))):
            self._call_start(number, call)
        for citation in list_of(message.get("citations")):
            self.source(citation)
        self._message_end(fields)

    def _content(self, content: Any) -> None:
        if isinstance(content, str):
            self.write(content)
            return
        block = fields_of(content)
        self.write(block.get("thinking"), "reasoning")
        self.write(block.get("text"))

    def _call_start(self, key: Any, call: Any) -> None:
        fields = fields_of(call)
        function = fields_of(fields.get("function"))
        self._calls[key] = self.writer(0).part(
            "tool_call",
            name=name_of(function.get("name")) or None,
            call_id=name_of(fields.get("id")) or None,
            text=str_of(function.get("arguments")),
        )

    def _message_end(self, fields: Mapping[str, Any]) -> None:
        """Take what a reply's end, or a whole reply, says of the end."""
        self.settle_usage(fields.get("usage"))
        reason = name_of(fields.get("finish_reason"))
        self.settle_reason(reason)
        error = provider_message(fields.get("error"))
        if error is not None or reason in _FAILED:
            self.settle_error(error or "the provider reported an error")


def _key(event: Mapping[str, Any]) -> Any:
    """Which call an event is about."""
    index = event.get("index")
    return index if isinstance(index, int | str) else None
