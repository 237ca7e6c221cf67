"""Ollama's own API: chats and completions, as lines of JSON."""

from __future__ import annotations

from typing import Any

from tokenwire_adapters._agents.values import fields_of, list_of, to_json
from tokenwire_adapters._agents.wires.json_recorder import JsonRecorder

__all__ = ["OllamaChatRecorder", "OllamaGenerateRecorder"]

_COUNTS = ("prompt_eval_count", "eval_count")


class OllamaChatRecorder(JsonRecorder):
    """Reads the lines of ``/api/chat``; a whole reply is one such line.

    https://docs.ollama.com/api/chat
    """

    provider = "ollama"
    api = "chat"

    def read(self, item: Any) -> None:
        fields = fields_of(item)
        message = fields_of(fields.get("message"))
        self.write(message.get("thinking"), "reasoning")
        self.write(message.get("content"))
        for call in list_of(message.get("tool_calls")):
            function = fields_of(fields_of(call).get("function"))
            call_id = fields_of(call).get("id") or function.get("id")
            self.tool_call(function.get("name"), call_id, function.get("arguments"))
        self._ended(item)

    def _ended(self, item: Any) -> None:
        """Take what the last line says of the end."""
        fields = fields_of(item)
        if fields.get("done") is not True:
            return
        counts = {name: fields[name] for name in _COUNTS if name in fields}
        self.settle_usage(to_json(counts))
        self.settle_reason(fields.get("done_reason"))
        self.is_whole = True  # older servers give no reason
        self.end()


class OllamaGenerateRecorder(OllamaChatRecorder):
    """Reads the lines of ``/api/generate``; a whole reply is one such line.

    https://docs.ollama.com/api/generate
    """

    api = "generate"

    def read(self, item: Any) -> None:
        fields = fields_of(item)
        self.write(fields.get("thinking"), "reasoning")
        self.write(fields.get("response"))
        self._ended(item)
