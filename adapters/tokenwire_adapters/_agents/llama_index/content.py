"""From LlamaIndex's responses to the parts of a response.

What a response of a stream holds differs with the integration: `delta` is what is new; `blocks`
hold everything so far, or this event's part alone; some are updated in place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from tokenwire_adapters._agents.calls import Parts
from tokenwire_adapters._agents.values import dict_of, list_of, name_of, str_of, to_json

__all__ = ["Reader"]


class Reader:
    """Reads the responses of one call, in their order.

    :ivar finish_reason: as far as the provider has sent it; `usage` likewise.
    :ivar tools: the names of tools, by the ids of the calls.
    """

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self.tools: dict[str, str | None] = {}
        self._text = False
        self._thoughts = False
        self._is_chat: bool | None = None
        self._written: dict[object, int] = {}

    def read(self, parts: Parts, response: Any) -> None:
        """Write what one response of a stream adds."""
        delta: Any = response.delta
        if delta and isinstance(delta, str):
            parts.text("text", delta)
            self._text = True
        if self._is_chat is None:  # to ask a Pydantic model for a missing attribute is slow
            self._is_chat = getattr(response, "message", None) is not None
        extra: Any = response.additional_kwargs
        has_thought = bool(extra) and self._read_thought(parts, extra)
        if self._is_chat:
            message: Any = response.message
            if message.additional_kwargs and not has_thought:
                self._read_thought(parts, message.additional_kwargs)
            for block in message.blocks:
                if _type(block) == "tool_call":
                    self._read_tools(parts, message, whole=False)
                    break
        self._read_raw(response.raw)

    def _read_thought(self, parts: Parts, extra: Any) -> bool:
        thought: Any = _get(extra, "thinking_delta")
        if not thought or not isinstance(thought, str):
            return False
        parts.text("reasoning", thought)
        self._thoughts = True
        return True

    def read_last(self, parts: Parts | None, response: Any) -> None:
        """Write what no response of the stream had; without `parts`, only read the outcome."""
        message: Any = getattr(response, "message", None)
        blocks: list[Any] = list(message.blocks) if message is not None else []
        if parts is not None:
            if not self._thoughts:
                for number, block in enumerate(blocks):
                    text: Any = getattr(block, "content", None)
                    if _type(block) == "thinking" and isinstance(text, str) and text:
                        parts.text("reasoning", text, number)
            text = response.text if message is None else message.content
            if not self._text and isinstance(text, str) and text:
                parts.text("text", text)
            for block in blocks:
                if _type(block) == "citation":
                    parts.add("source", block)
        if message is not None:
            self._read_tools(parts, message, whole=True)
        self._read_raw(response.raw)
        self._read_counts(response, message)

    def _read_tools(self, parts: Parts | None, message: Any, *, whole: bool) -> None:
        for number, block in enumerate(message.blocks):
            if _type(block) != "tool_call":
                continue
            call_id: Any = block.tool_call_id or None
            key = call_id or ("tool", number)
            arguments: Any = block.tool_kwargs
            if call_id is not None:
                self.tools[call_id] = block.tool_name or None
            if parts is None:
                continue
            if isinstance(arguments, str):
                have = self._written.get(key, 0)
                if have == 0 or len(arguments) > have:
                    parts.tool(key, call_id, block.tool_name, arguments[have:])
                    self._written[key] = max(1, len(arguments))
            elif whole and key not in self._written:
                # Parsed from what has come so far: only the last one can be published.
                text = json.dumps(arguments, ensure_ascii=False, default=str)
                parts.tool(key, call_id, block.tool_name, text)
                self._written[key] = len(text)

    def _read_raw(self, raw: Any) -> None:
        """Read from the provider's own chunk why the model stopped."""
        choices: Any = _get(raw, "choices")
        if choices is not None:  # of Chat Completions, the most usual by far
            first = list_of(choices)[:1]
            reason = _get(first[0], "finish_reason") if first else None
            self.finish_reason = name_of(reason) or self.finish_reason
            return
        source: Any = _get(raw, "delta")
        if source is None or isinstance(source, str):
            source = _get(raw, "response") or raw
        for name in ("finish_reason", "stop_reason", "status", "done_reason"):
            reason = _get(source, name)
            if reason != "in_progress":
                self.finish_reason = name_of(reason) or self.finish_reason

    def _read_counts(self, response: Any, message: Any) -> None:
        """Read how many tokens it took."""
        for extra in (response.additional_kwargs, getattr(message, "additional_kwargs", None)):
            if not isinstance(extra, dict):
                continue
            fields = cast("dict[str, Any]", extra)
            usage: Any = fields.get("usage")
            if usage is not None and not isinstance(usage, Mapping):
                dump = getattr(usage, "model_dump", None)
                usage = dump(mode="json") if callable(dump) else None
            counts = {
                key: value for key, value in fields.items() if str_of(key).endswith("_tokens")
            }
            if usage or counts:
                self.usage = dict_of(to_json(usage or counts)) or self.usage
            self.finish_reason = self.finish_reason or name_of(fields.get("stop_reason")) or None


def _type(block: Any) -> str:
    return cast("str", getattr(block, "block_type", ""))


def _get(value: Any, name: str) -> Any:
    if type(value) is dict:  # several times as quick as asking for a `Mapping`
        return cast("dict[str, Any]", value).get(name)
    return getattr(value, name, None)
