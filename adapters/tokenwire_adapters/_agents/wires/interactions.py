"""Google's Interactions API: a stream of steps that open, grow and close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tokenwire import PartWriter, ResponseWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.values import (
    arguments_of,
    fields_of,
    file_content,
    index_of,
    list_of,
    name_of,
    provider_message,
    str_of,
    to_json,
)
from tokenwire_adapters._agents.wires.json_recorder import JsonRecorder

__all__ = ["InteractionsRecorder"]

_ENDS = frozenset({"completed", "requires_action", "failed", "cancelled", "incomplete"})


class InteractionsRecorder(JsonRecorder):
    """Reads the events of an interaction's stream, and whole interactions.

    Thoughts are published as ``reasoning``; signatures are not published.
    https://ai.google.dev/gemini-api/docs/interactions
    """

    provider = "google"
    api = "interactions"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._steps: dict[int, _Call | _Result] = {}  # those that are open
        self._last_call: str | None = None

    def read(self, item: Any) -> None:
        event = fields_of(item)
        handler = self._handlers.get(name_of(event.get("event_type")))
        if handler is not None:
            handler(self, event)

    def feed_reply(self, reply: Any) -> None:
        self.is_whole = True
        interaction = fields_of(reply)
        for index, step in enumerate(list_of(interaction.get("steps"))):
            self._begin_step(index, fields_of(step))
            self._close_step(index)
        self._take_end(interaction)

    def flush(self) -> None:
        for index in list(self._steps):
            self._close_step(index)

    # -- events

    def _step_start(self, event: Mapping[str, Any]) -> None:
        index = _place(event)
        self._close_step(index)
        self._begin_step(index, fields_of(event.get("step")))

    def _step_delta(self, event: Mapping[str, Any]) -> None:
        delta = fields_of(event.get("delta"))
        kind = name_of(delta.get("type"))
        step = self._steps.get(_place(event))
        if kind == "arguments_delta":
            if isinstance(step, _Call):
                step.add(delta.get("arguments"))
        elif kind == "text_annotation_delta":
            for annotation in list_of(delta.get("annotations")):
                self.source(annotation)
        elif kind == "thought_summary":
            self._content(delta.get("content"), "reasoning")
        elif kind.endswith("_call"):
            if isinstance(step, _Call):
                step.add(delta.get("arguments"))
        elif kind.endswith("_result"):
            if isinstance(step, _Result):
                step.fields.update(delta)
        else:
            self._content(delta, "text")

    def _step_stop(self, event: Mapping[str, Any]) -> None:
        self._close_step(_place(event))

    def _completed(self, event: Mapping[str, Any]) -> None:
        self.flush()
        self._take_end(fields_of(event.get("interaction")))
        self.settle_reason(self._reasons.get(0) or "completed")
        self.end()

    def _status(self, event: Mapping[str, Any]) -> None:
        status = name_of(event.get("status"))
        if status in _ENDS:
            self.settle_reason(status)

    _handlers: ClassVar[dict[str, Callable[[Any, Mapping[str, Any]], None]]] = {
        "step.start": _step_start,
        "step.delta": _step_delta,
        "step.stop": _step_stop,
        "interaction.status_update": _status,
        "interaction.completed": _completed,
    }

    def _take_end(self, interaction: Mapping[str, Any]) -> None:
        """Take what an interaction says of its end."""
        self.settle_usage(interaction.get("usage"))
        status = interaction.get("status")
        self.settle_reason(status)
        if status == "failed":
            message = provider_message(interaction.get("errors") or interaction.get("error"))
            self.settle_error(message or "the provider reported a failure")

    # -- steps

    def _begin_step(self, index: int, step: Mapping[str, Any]) -> None:
        kind = name_of(step.get("type"))
        if kind.endswith("_call"):
            name = name_of(step.get("name")) or kind.removesuffix("_call")
            call_id = name_of(step.get("id")) or None
            self._last_call = call_id
            part = self.writer(0).part(
                "tool_call", name=name, call_id=call_id, provider_executed=kind != "function_call"
            )
            self._steps[index] = _Call(part, step.get("arguments"))
        elif kind.endswith("_result"):
            self._steps[index] = _Result(self.writer(0), dict(step), self._last_call)
        elif kind == "thought":
            for content in list_of(step.get("summary")):
                self._content(content, "reasoning")
        elif kind == "model_output":
            for content in list_of(step.get("content")):
                self._content(content, "text")

    def _close_step(self, index: int) -> None:
        step = self._steps.pop(index, None)
        if step is not None:
            step.close()

    def _content(self, content: Any, kind: str) -> None:
        """Write a piece of content: text, or a file."""
        fields = fields_of(content)
        form = name_of(fields.get("type"))
        if form == "text":
            self.write(fields.get("text"), kind)
            for annotation in list_of(fields.get("annotations")):
                self.source(annotation)
        elif form in ("image", "audio", "video", "document"):
            data = {"media_type": str_of(fields.get("mime_type")) or "application/octet-stream"}
            if str_of(fields.get("uri")):
                data["url"] = fields["uri"]
            data |= file_content(fields.get("data"))
            self.writer(0).part("file", name=form, data=data)


class _Call:
    """A tool call. Arguments that come as an object are written when the step is over."""

    def __init__(self, part: PartWriter, arguments: Any) -> None:
        self._part = part
        self._whole: Any = arguments
        self._is_text = False  # some have come as text

    def add(self, arguments: Any) -> None:
        """Take a piece of the arguments, or all of them as an object."""
        if isinstance(arguments, str):
            self._is_text = self._is_text or bool(arguments)
            self._part.write(arguments)
        elif arguments:
            self._whole = arguments

    def close(self) -> None:
        """Write what was held back."""
        if not self._is_text:
            self._part.write(arguments_of(self._whole) or "{}")


class _Result:
    """The result of a tool that the provider ran.

    :ivar fields: of the step, with those that its deltas brought.
    """

    def __init__(
        self, writer: ResponseWriter, fields: dict[str, Any], last_call: str | None
    ) -> None:
        self.fields = fields
        self._writer = writer
        self._last_call = last_call

    def close(self) -> None:
        """Publish it, with the call before it where it names none."""
        call_id = name_of(self.fields.get("call_id")) or self._last_call
        if call_id:
            error = "the tool failed" if self.fields.get("is_error") else None
            self._writer.tool_result(call_id, to_json(self.fields.get("result")), error=error)


def _place(event: Mapping[str, Any]) -> int:
    """Which step an event is about."""
    return index_of(event.get("index")) or 0
