"""`JsonRecorder`: what the recorders of APIs have in common whose replies are read as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.values import arguments_of, name_of, to_json

__all__ = ["JsonRecorder"]


class JsonRecorder(StainlessRecorder):
    """Publishes one response, or one for each choice, that ends with a finish reason.

    A subclass implements `read` on the methods here. Any field may be of any type, and one that
    cannot be read costs itself alone.

    :ivar is_whole: the reply came in one piece, so that nothing of it can be missing.
    """

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self.is_whole = False
        self._usage: dict[str, Any] | None = None
        self._reasons: dict[int, str] = {}
        self._error: str | None = None
        self._sources: set[tuple[int, str]] = set()

    def feed_reply(self, reply: Any) -> None:
        self.is_whole = True
        self.read(reply)

    def finish(self) -> None:
        self.flush()
        self.begin()
        for index, writer in list(self.writers.items()):
            reason = self._reasons.get(index)
            self.end_writer(writer, reason, self._error, is_whole=self.is_whole)

    def usage(self) -> dict[str, Any] | None:
        return self._usage

    def finish_reason(self, index: int) -> str | None:
        return self._reasons.get(index)

    def write(self, text: Any, kind: str = "text", index: int = 0) -> None:
        """Append text to choice number `index`, if it is text."""
        if text and isinstance(text, str):
            self.writer(index).write(text, kind=kind)

    def tool_call(
        self,
        name: Any,
        call_id: Any,
        arguments: Any,
        index: int = 0,
        *,
        provider_executed: bool = False,
    ) -> None:
        """Write a tool call that has come whole; without arguments, those are an empty object."""
        self.writer(index).part(
            "tool_call",
            name=name_of(name) or None,
            call_id=name_of(call_id) or None,
            text=arguments_of(arguments) or "{}",
            provider_executed=provider_executed,
        )

    def source(self, data: Any, index: int = 0) -> None:
        """Write a source, once."""
        data = to_json(data)
        mark = (index, json.dumps(data, sort_keys=True, default=str))
        if isinstance(data, dict) and data and mark not in self._sources:
            self._sources.add(mark)
            self.writer(index).part("source", data=data)

    def settle_usage(self, usage: Any) -> None:
        """Take token counts: the last ones count."""
        counts = to_json(usage)
        if isinstance(counts, dict) and counts:
            self._usage = counts

    def settle_reason(self, reason: Any, index: int = 0) -> None:
        """Take a finish reason."""
        if name_of(reason):
            self.writer(index)
            self._reasons[index] = name_of(reason)

    def settle_error(self, message: str) -> None:
        """Let the response fail when it ends."""
        self.writer(0)
        self._error = message
