"""The Responses API of OpenAI: a stream of typed events about output items and their parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, cast

from tokenwire import PartWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder, to_json

__all__ = ["ResponsesRecorder"]

_CUT_OFF = "the stream ended before the response was complete"
_ARGUMENTS = ("action", "actions", "operation", "arguments")
_OPAQUE = ("encrypted_content", "fingerprint")  # opaque to watchers


class ResponsesRecorder(StainlessRecorder):
    """Reads the events of a ``response`` stream, and whole ``response`` objects.

    Parts are kept apart by their place, since items may grow side by side. What an item's end
    holds and its deltas did not (some servers send no deltas) is written then. Some servers do not
    place the same item the same way each time: then its id says what has been written.
    https://platform.openai.com/docs/api-reference/responses-streaming
    """

    provider = "openai"
    api = "responses"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._parts: dict[Any, PartWriter] = {}
        self._calls: dict[int, PartWriter] = {}
        self._filled: set[int] = set()
        self._done: set[int] = set()
        self._streamed_ids: set[tuple[Any, str]] = set()  # of items that had deltas
        self._done_ids: set[str] = set()
        self._sources: set[str] = set()
        self._usage: dict[str, Any] | None = None
        self._has_transcript = False  # of speech, by deltas

    def feed(self, item: Any) -> None:
        kind = item.type
        if kind == "response.output_text.delta":
            self._grow((item.output_index, item.content_index), "text", item.delta, item)
        else:
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(self, item)

    def feed_reply(self, reply: Any) -> None:
        self._end(reply)

    def finish(self) -> None:
        self.writer(0).fail(_CUT_OFF, usage=self._usage)

    def usage(self) -> dict[str, Any] | None:
        return self._usage

    def _grow(self, key: Any, kind: str, text: str | None, event: Any = None) -> None:
        part = self._parts.get(key)
        if part is not None:
            part.write(text or "")
        elif text:
            self._parts[key] = self.writer(0).part(kind, text=text)
            item_id = getattr(event, "item_id", None)
            if item_id:
                self._streamed_ids.add((_sort(key), item_id))

    def _complete(self, key: Any, kind: str, text: str | None, item: Any) -> None:
        """Write the whole text of a part that had no deltas."""
        if key not in self._parts and (_sort(key), _id(item)) not in self._streamed_ids:
            self._grow(key, kind, text)

    # -- events

    def _refusal(self, event: Any) -> None:
        self._grow((event.output_index, event.content_index), "refusal", event.delta, event)

    def _reasoning(self, event: Any) -> None:
        self._grow(("r", event.output_index, event.content_index), "reasoning", event.delta, event)

    def _summary(self, event: Any) -> None:
        self._grow(("s", event.output_index, event.summary_index), "reasoning", event.delta, event)

    def _spoken(self, event: Any) -> None:
        """Write what is said; the sound is not published. These events may have no place."""
        self._has_transcript = True
        place = (getattr(event, "output_index", None), getattr(event, "content_index", None))
        self._grow(("a", *place), "text", event.delta)

    def _annotation(self, event: Any) -> None:
        self._source(event.annotation)

    def _arguments(self, event: Any) -> None:
        part = self._calls.get(event.output_index)
        if part is not None and event.delta:
            self._filled.add(event.output_index)
            part.write(event.delta)

    def _added(self, event: Any) -> None:
        self._call(event.output_index, event.item)

    def _item_done(self, event: Any) -> None:
        self._item(event.output_index, event.item)

    def _ended(self, event: Any) -> None:
        response = event.response
        if isinstance(response, Mapping):  # an event that the SDK has no class for
            fields = cast("Mapping[str, Any]", response)
            known = {name: fields.get(name) for name in ("status", "usage", "error")}
            response = SimpleNamespace(**known, output=None)
        self._end(response)

    def _error(self, event: Any) -> None:
        self.writer(0).fail(event.message or "the provider reported an error", usage=self._usage)
        self.ended = True

    _handlers: ClassVar[dict[str, Callable[[Any, Any], None]]] = {
        "response.refusal.delta": _refusal,
        "response.audio.transcript.delta": _spoken,
        "response.output_audio_transcript.delta": _spoken,
        "response.reasoning_text.delta": _reasoning,
        "response.reasoning_summary_text.delta": _summary,
        "response.output_text.annotation.added": _annotation,
        "response.function_call_arguments.delta": _arguments,
        "response.custom_tool_call_input.delta": _arguments,
        "response.mcp_call_arguments.delta": _arguments,
        "response.code_interpreter_call_code.delta": _arguments,
        "response.output_item.added": _added,
        "response.output_item.done": _item_done,
        "response.completed": _ended,
        "response.incomplete": _ended,
        "response.failed": _ended,
        "response.cancelled": _ended,
        "error": _error,
    }

    # -- items

    def _call(self, index: int, item: Any) -> PartWriter | None:
        """Begin the tool call that an item is, if it is one whose arguments grow."""
        part = self._calls.get(index)
        if part is not None:
            return part
        kind = item.type
        if kind in ("function_call", "custom_tool_call"):
            name, call_id = item.name, item.call_id
        elif kind == "mcp_call":
            name, call_id = item.name, item.id
        elif kind == "code_interpreter_call":
            name, call_id = "code_interpreter", item.id
        else:
            return None
        part = self._calls[index] = self.writer(0).tool_call(name, call_id)
        return part

    def _item(self, index: int, item: Any) -> None:
        """Take an item that is whole: what of it has not been written yet."""
        if index in self._done:
            return
        self._done.add(index)
        if _id(item):
            self._done_ids.add(_id(item))
        kind = item.type
        if kind == "message":
            self._message(index, item)
        elif kind == "reasoning":
            for place, summary in enumerate(item.summary or ()):
                self._complete(("s", index, place), "reasoning", summary.text, item)
            for place, content in enumerate(getattr(item, "content", None) or ()):
                self._complete(("r", index, place), "reasoning", content.text, item)
        else:
            call = self._call(index, item)
            if call is None:
                self._other(item)
                return
            if index not in self._filled:
                call.write(_first(item, "arguments", "input", "code") or "")
            self._answer(item)

    def _message(self, index: int, item: Any) -> None:
        for place, content in enumerate(item.content):
            if content.type == "output_text":
                self._complete((index, place), "text", content.text, item)
                for annotation in content.annotations or ():
                    self._source(annotation)
            elif content.type == "refusal":
                self._complete((index, place), "refusal", content.refusal, item)
            elif content.type == "output_audio" and not self._has_transcript:
                transcript = getattr(content, "transcript", None)
                self._complete((index, place), "text", transcript, item)

    def _answer(self, item: Any) -> None:
        """Publish the result of a tool that the provider ran."""
        if item.type == "mcp_call":
            error = to_json(getattr(item, "error", None))
            if item.output is not None or error is not None:
                message = None if error is None else _message(error)
                self.writer(0).tool_result(item.id, item.output, name=item.name, error=message)
        elif item.type == "code_interpreter_call" and getattr(item, "outputs", None):
            outputs = [to_json(output) for output in item.outputs]
            self.writer(0).tool_result(item.id, outputs, name="code_interpreter")

    def _other(self, item: Any) -> None:
        """Publish an item that has no arguments to stream."""
        kind: str = item.type
        fields = to_json(item)
        if not isinstance(fields, dict) or kind == "compaction":
            return
        data = {key: value for key, value in cast("Any", fields).items() if key not in _OPAQUE}
        if kind == "image_generation_call":
            data.pop("result", None)  # the image itself is too large
        writer = self.writer(0)
        call_id = data.get("call_id")
        if call_id and kind.endswith("_call"):
            body: Any = next((data[key] for key in _ARGUMENTS if data.get(key)), "")
            arguments = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
            writer.tool_call(kind.removesuffix("_call"), call_id, arguments)
        elif call_id and "output" in data:
            writer.tool_result(call_id, data["output"])
        elif kind == "image_generation_call":
            writer.part("file", name=kind, data={**data, "media_type": "image/png"})
        else:
            writer.part("data", name=kind, data=data)

    def _source(self, annotation: Any) -> None:
        data = to_json(annotation)
        mark = json.dumps(data, sort_keys=True, default=str)
        if mark not in self._sources:
            self._sources.add(mark)
            self.writer(0).part("source", data=data)

    def _end(self, response: Any) -> None:
        """The provider says how the response ended."""
        writer = self.writer(0)
        for index, item in enumerate(response.output or ()):
            if _id(item) not in self._done_ids:
                self._item(index, item)
        status = response.status
        self._usage = to_json(response.usage) if response.usage is not None else None
        if status == "failed":
            message = getattr(response.error, "message", None)
            message = message or "the provider reported a failure"
            writer.fail(message, finish_reason=status, usage=self._usage)
        elif status == "cancelled":
            writer.cancel("the provider cancelled it", finish_reason=status, usage=self._usage)
        else:  # in background mode also "queued": nothing more comes this way
            writer.finish(status, self._usage)
        self.ended = True


def _sort(key: Any) -> Any:
    """What keeps a reasoning item's two lists, and a message's parts, apart."""
    return key[0] if isinstance(key[0], str) else None


def _id(item: Any) -> str:
    """The id of an item; empty where it has none."""
    return getattr(item, "id", None) or ""


def _first(item: Any, *names: str) -> Any:
    """The first of these attributes that is there and not empty."""
    for name in names:
        value = getattr(item, name, None)
        if value:
            return value
    return None


def _message(error: Any) -> str:
    if isinstance(error, Mapping):
        message = cast("Mapping[str, Any]", error).get("message")
        if isinstance(message, str):
            return message
    return error if isinstance(error, str) else json.dumps(error, default=str)
