"""The Realtime API of OpenAI: the events of its responses, on a WebSocket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tokenwire_adapters._agents.openai.responses import ResponsesRecorder
from tokenwire_adapters._agents.values import (
    dict_of,
    fields_of,
    name_of,
    provider_message,
    to_json,
    with_type,
)

__all__ = ["RealtimeRecorder"]

_OLDER_NAMES = {
    f"response.{older}.{what}": f"response.{name}.{what}"
    for older, name in (("text", "output_text"), ("audio_transcript", "output_audio_transcript"))
    for what in ("delta", "done")
}
"""The events of the beta of this API, by today's names."""


class RealtimeRecorder(ResponsesRecorder):
    """Reads the events of one response of the Realtime API. Of sound, the transcript is published.

    Most events are those of the Responses API; ``response.done`` ends a response, whatever its
    status.
    https://platform.openai.com/docs/api-reference/realtime-server-events
    """

    api = "realtime"

    def feed(self, item: Any) -> None:
        kind = fields_of(item).get("type")
        name = _OLDER_NAMES.get(kind) if isinstance(kind, str) else None
        super().feed(item if name is None else with_type(item, name))

    def _done(self, event: Any) -> None:
        response = fields_of(getattr(event, "response", None))
        status = name_of(response.get("status")) or "completed"
        if status == "failed":
            error = dict_of(to_json(response.get("status_details"))).get("error")
            code = name_of(fields_of(error).get("code"))
            response = {**response, "error": provider_message(error) or code}
        self._end(response, status)

    _handlers: ClassVar[dict[str, Callable[[Any, Any], None]]] = {
        **ResponsesRecorder._handlers,
        "response.done": _done,
    }
