"""Amazon Bedrock's Converse API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tokenwire import PartWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.values import (
    arguments_of,
    fields_of,
    index_of,
    list_of,
    name_of,
    str_of,
    to_json,
)
from tokenwire_adapters._agents.wires.json_recorder import JsonRecorder

__all__ = ["ConverseRecorder"]

_SERVER_CALL = "server_tool_use"  # the type of a call of a tool that Bedrock runs


class ConverseRecorder(JsonRecorder):
    """Reads the events of a ``ConverseStream``, and whole replies of ``Converse``.

    An event is an object with one key, its type. Blocks of text and of reasoning may begin without
    an event that says so; each block is a part.
    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
    """

    provider = "bedrock"
    api = "converse"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._parts: dict[tuple[int, str], PartWriter] = {}  # by block and kind
        self._empty_calls: set[int] = set()  # blocks of calls without arguments so far
        self._results: dict[int, tuple[Mapping[str, Any], list[Any]]] = {}

    def read(self, item: Any) -> None:
        for name, event in fields_of(item).items():
            handler = self._handlers.get(name)
            if handler is not None:
                handler(self, fields_of(event))
        if self._reasons:
            self.settle_later(item)

    def feed_reply(self, reply: Any) -> None:
        self.is_whole = True
        fields = fields_of(reply)
        message = fields_of(fields_of(fields.get("output")).get("message"))
        for index, block in enumerate(list_of(message.get("content"))):
            self._whole_block(index, fields_of(block))
        self.settle_reason(fields.get("stopReason"))
        self.settle_usage(fields.get("usage"))

    def flush(self) -> None:
        for index in {*self._empty_calls, *self._results}:
            self._close_block(index)

    # -- events

    def _block_start(self, event: Mapping[str, Any]) -> None:
        index = _place(event)
        start = fields_of(event.get("start"))
        for kind in ("text", "reasoning"):
            self._parts.pop((index, kind), None)
        if "toolUse" in start:
            self._begin_call(index, fields_of(start["toolUse"]))
        elif "toolResult" in start:
            self._results[index] = (fields_of(start["toolResult"]), [])

    def _block_delta(self, event: Mapping[str, Any]) -> None:
        index = _place(event)
        delta = fields_of(event.get("delta"))
        self._grow(index, "text", delta.get("text"))
        self._grow(index, "reasoning", fields_of(delta.get("reasoningContent")).get("text"))
        if "toolUse" in delta:
            self._add_input(index, fields_of(delta["toolUse"]).get("input"))
        if "toolResult" in delta and index in self._results:
            self._results[index][1].extend(list_of(delta["toolResult"]))
        if "citation" in delta:
            self._cite(delta["citation"])

    def _block_stop(self, event: Mapping[str, Any]) -> None:
        self._close_block(_place(event))

    def _message_stop(self, event: Mapping[str, Any]) -> None:
        self.flush()
        self.settle_reason(event.get("stopReason"))

    def _token_counts(self, event: Mapping[str, Any]) -> None:
        """Take the token counts, which come last."""
        self.settle_usage(event.get("usage"))
        if self._reasons:
            self.end()

    _handlers: ClassVar[dict[str, Callable[[Any, Mapping[str, Any]], None]]] = {
        "contentBlockStart": _block_start,
        "contentBlockDelta": _block_delta,
        "contentBlockStop": _block_stop,
        "messageStop": _message_stop,
        "metadata": _token_counts,
    }

    # -- blocks

    def _whole_block(self, index: int, block: Mapping[str, Any]) -> None:
        self._grow(index, "text", block.get("text"))
        reasoning = fields_of(fields_of(block.get("reasoningContent")).get("reasoningText"))
        self._grow(index, "reasoning", reasoning.get("text"))
        if "toolUse" in block:
            call = fields_of(block["toolUse"])
            self.tool_call(
                call.get("name"),
                call.get("toolUseId"),
                call.get("input"),
                provider_executed=call.get("type") == _SERVER_CALL,
            )
        if "toolResult" in block:
            result = fields_of(block["toolResult"])
            self._results[index] = (result, list_of(result.get("content")))
            self._close_block(index)
        cited = fields_of(block.get("citationsContent"))
        for content in list_of(cited.get("content")):
            self._grow(index, "text", fields_of(content).get("text"))
        for citation in list_of(cited.get("citations")):
            self._cite(citation)

    def _grow(self, index: int, kind: str, text: Any) -> None:
        if not text or not isinstance(text, str):
            return
        part = self._parts.get((index, kind))
        if part is None:
            self._parts[index, kind] = self.writer(0).part(kind, text=text)
        else:
            part.write(text)

    def _begin_call(self, index: int, call: Mapping[str, Any]) -> None:
        self._close_block(index)
        self._parts[index, "tool_call"] = self.writer(0).part(
            "tool_call",
            name=name_of(call.get("name")) or None,
            call_id=name_of(call.get("toolUseId")) or None,
            provider_executed=call.get("type") == _SERVER_CALL,
        )
        self._empty_calls.add(index)

    def _add_input(self, index: int, piece: Any) -> None:
        part = self._parts.get((index, "tool_call"))
        if part is not None and piece:
            self._empty_calls.discard(index)
            part.write(arguments_of(piece))

    def _close_block(self, index: int) -> None:
        if index in self._empty_calls:
            self._empty_calls.discard(index)
            self._parts[index, "tool_call"].write("{}")
        result, contents = self._results.pop(index, ({}, []))
        call_id = name_of(result.get("toolUseId"))
        if call_id:
            error = "the tool failed" if result.get("status") == "error" else None
            self.writer(0).tool_result(call_id, to_json(contents), error=error)

    def _cite(self, citation: Any) -> None:
        fields = fields_of(citation)
        web = fields_of(fields_of(fields.get("location")).get("web"))
        url = str_of(web.get("url"))
        self.source({**({"url": url} if url else {}), **fields})


def _place(event: Mapping[str, Any]) -> int:
    """Which block an event is about."""
    return index_of(event.get("contentBlockIndex")) or 0
