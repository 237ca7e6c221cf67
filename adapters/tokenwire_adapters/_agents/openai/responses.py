"""The Responses API of OpenAI: a stream of typed events about output items and their parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from tokenwire.instrument import Options
from tokenwire_adapters._agents.hosted_tools import (
    HOSTED_TOOLS,
    HostedCall,
    image_data,
    is_provider_executed,
)
from tokenwire_adapters._agents.openai.response_events import (
    CALL_EVENTS,
    TEXTS,
    WHOLE,
    event_name,
    place_of,
    same_arguments,
    text_of,
)
from tokenwire_adapters._agents.openai.response_items import Item, Items, TextPart
from tokenwire_adapters._agents.openai.tool_calls import ToolCall
from tokenwire_adapters._agents.openai.whole_items import GROWING_CALLS, WholeItem, WholeText
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.values import (
    arguments_of,
    dict_of,
    fields_of,
    index_of,
    list_of,
    name_of,
    provider_message,
    str_of,
    to_json,
)

__all__ = ["ResponsesRecorder"]

_ARGUMENTS = ("action", "actions", "operation", "arguments")
_OPAQUE = ("encrypted_content", "fingerprint")  # opaque to watchers
_ENDS = frozenset({"completed", "incomplete", "failed", "cancelled"})


class ResponsesRecorder(StainlessRecorder):
    """Reads the events of a ``response`` stream, and whole ``response`` objects.

    Items may grow side by side; `Items` says which item an event is about. What an item's end holds
    and its deltas did not (some servers send no deltas) is written then. The SDK does not validate
    what it reads: any field may be of any type, and one that cannot be read costs itself alone.
    https://platform.openai.com/docs/api-reference/responses-streaming
    """

    provider = "openai"
    api = "responses"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._items = Items()
        self._growing: tuple[Any, TextPart] | None = None  # where deltas go that are placed alike
        self._sources: set[str] = set()
        self._corrections: list[dict[str, Any]] = []
        self._usage: dict[str, Any] | None = None

    def feed(self, item: Any) -> None:
        # The usual event takes the shortest way; `read` takes every other one.
        growing = self._growing
        if growing is not None:
            try:
                text = item.delta
                usual = (
                    item.type == "response.output_text.delta"
                    and growing[0] == (item.item_id, item.output_index, item.content_index)
                    and type(text) is str
                )
            except Exception:
                usual, text = False, ""
            if usual and not self.ended:
                growing[1].write(text)
                return
        super().feed(item)

    def read(self, item: Any) -> None:
        kind = getattr(item, "type", None)
        if kind == "response.output_text.delta":
            self._text_delta(item)
            return
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is not None:
            self._growing = None
            handler(self, item)

    def feed_reply(self, reply: Any) -> None:
        fields = fields_of(reply)
        self._end(fields, name_of(fields.get("status")) or None)

    def flush(self) -> None:
        for item in self._items:
            if item.call is not None:
                item.call.finish(self.writer(0))

    def finish(self) -> None:
        self.flush()
        self.end_writer(self.writer(0), None, None, is_whole=bool(self.terminated))

    def usage(self) -> dict[str, Any] | None:
        return self._usage

    # -- texts

    def _text_delta(self, event: Any) -> None:
        text = getattr(event, "delta", None)
        if not text or not isinstance(text, str):
            return
        placed = (
            getattr(event, "item_id", None),
            getattr(event, "output_index", None),
            getattr(event, "content_index", None),
        )
        if self._growing is not None and self._growing[0] == placed:
            self._growing[1].write(text)
        else:
            part = self._grow(event, "message", "text", "text", placed[2], text)
            self._growing = None if part is None else (placed, part)

    def _grow(
        self, event: Any, item_kind: str, kind: str, sort: str, place: Any, text: str
    ) -> TextPart | None:
        item = self._items.grow(item_kind, *place_of(event))
        if item.ahead:
            return None
        part = item.text_at(sort, index_of(place))
        if part is None:
            part = self._begin(item, kind, sort, place, text)
        else:
            part.write(text)
        return part

    def _begin(self, item: Item, kind: str, sort: str, place: Any, text: str) -> TextPart:
        part = TextPart(self.writer(0).part(kind, text=text), sort, index_of(place), text)
        item.texts.append(part)
        return part

    def _delta(self, event: Any) -> None:
        """Take a delta of a text other than the usual one."""
        _, item_kind, kind, sort, place = text_of(event)
        text = getattr(event, "delta", None)
        if text and isinstance(text, str):
            self._grow(event, item_kind, kind, sort, place, text)

    def _text_done(self, event: Any) -> None:
        """Take the whole of a text: servers may send no deltas of it."""
        text, item_kind, kind, sort, place = text_of(event)
        if text:
            item = self._items.complete(item_kind, *place_of(event), "", text)
            mine = [part for part in item.texts if part.sort == sort]
            part = _part_at(mine, index_of(place), text)
            if "".join(part.text for part in mine) == text:
                return
            if part is not None:
                self._extend(part, text)
            else:
                self._begin(item, kind, sort, place, text)

    def _extend(self, part: TextPart, whole: str) -> None:
        """Write what of a text its deltas have not brought."""
        written = part.text
        if whole.startswith(written):
            part.write(whole[len(written) :])
        elif whole and whole.strip() != written.strip():  # some servers trim it
            self._correct({"kind": part.part.kind, "text": whole})

    def _correct(self, correction: dict[str, Any]) -> None:
        """Publish that the end of a text, or of a call, is not what its deltas were.

        What watchers have read cannot be unsaid: the text stays, and a part says what it should be.
        """
        correction = to_json(correction)
        if correction not in self._corrections:
            self._corrections.append(correction)
            self.writer(0).part("data", name="correction", data=correction)

    # -- arguments

    def _arguments(self, event: Any) -> None:
        item = self._items.grow(CALL_EVENTS[event_name(event)], *place_of(event))
        if item.ahead:
            return
        call = _call(item)
        call.add_arguments(getattr(event, "delta", None))
        if call.name:
            call.begin(self.writer(0))

    def _arguments_done(self, event: Any) -> None:
        fields = fields_of(event)
        whole = next((fields[key] for key in WHOLE if fields.get(key)), None)
        if whole is not None:
            kind = CALL_EVENTS[event_name(event)]
            item = self._items.complete(kind, *place_of(event), "", arguments_of(whole))
            self._complete_call(_call(item), whole)

    def _complete_call(self, call: ToolCall, whole: Any) -> None:
        """Write what of a call's arguments has not come in pieces."""
        arguments = arguments_of(whole)
        written = call.arguments
        if arguments.startswith(written):
            call.add_arguments(arguments[len(written) :])
        elif arguments and not same_arguments(written, arguments):
            self._correct({"kind": "tool_call", "call_id": call.call_id, "text": arguments})
        if call.name:
            call.begin(self.writer(0))

    # -- items

    def _item_added(self, event: Any) -> None:
        whole = WholeItem(getattr(event, "item", None))
        if whole.kind:
            index = place_of(event)[1]
            item = self._items.begin(whole.kind, whole.id, index, whole.call_id)
            self._name_call(item, whole)
            if whole.kind in HOSTED_TOOLS:
                self._begin_hosted(item, whole)

    def _item_done(self, event: Any) -> None:
        whole = WholeItem(getattr(event, "item", None))
        if whole.kind:
            index = place_of(event)[1]
            item = self._items.complete(whole.kind, whole.id, index, whole.call_id, whole.content)
            self._whole(item, whole)

    def _name_call(self, item: Item, whole: WholeItem) -> None:
        """Begin the tool call that an item is, if it is one whose arguments grow."""
        if item.kind not in GROWING_CALLS:
            return
        call = _call(item)
        call.call_id = call.call_id or whole.call_id or None
        call.provider_executed = is_provider_executed(item.kind, whole.fields)
        is_code = item.kind == "code_interpreter_call"
        call.name = call.name or (
            "code_interpreter" if is_code else name_of(whole.fields.get("name"))
        )
        if call.name and call.call_id:
            call.begin(self.writer(0))

    def _begin_hosted(self, item: Item, whole: WholeItem) -> HostedCall:
        """The call of a tool that the provider runs, begun if need be."""
        if item.hosted is None:
            item.hosted = HostedCall(self.writer(0), item.kind, whole.id, item.index)
        return item.hosted

    def _whole(self, item: Item, whole: WholeItem) -> None:
        """Take an item that has come whole: what of it has not been written yet."""
        if item.done and not (item.texts or item.call):
            return
        item.done = True
        if item.kind in ("message", "reasoning"):
            self._whole_texts(item, whole.texts)
            for content in list_of(whole.fields.get("content")):
                for annotation in list_of(fields_of(content).get("annotations")):
                    self._source(annotation)
        elif item.kind in GROWING_CALLS:
            self._name_call(item, whole)
            if item.call is not None:
                self._complete_call(item.call, whole.arguments)
                item.call.finish(self.writer(0))
            self._answer(item, whole.fields)
        elif not item.digest:
            item.digest = whole.content
            if item.kind in HOSTED_TOOLS:
                self._begin_hosted(item, whole).complete(whole.value)
            self._other(item.kind, whole.value)

    def _whole_texts(self, item: Item, wholes: list[WholeText]) -> None:
        """Write what of an item's texts has not come in deltas, wherever these were placed."""
        if item.content == "".join(whole.text for whole in wholes):
            return
        for sort in dict.fromkeys(whole.sort for whole in wholes):
            mine = [text for text in item.texts if text.sort == sort]
            theirs = [whole for whole in wholes if whole.sort == sort]
            for number, (kind, _, place, text) in enumerate(theirs):
                part = _part_at(mine, place, text)
                if part is None and len(mine) == len(theirs):
                    part = mine[number]
                if part is not None:
                    self._extend(part, text)
                elif text and len(theirs) > len(mine):
                    self._begin(item, kind, sort, place, text)

    def _answer(self, item: Item, fields: Mapping[str, Any]) -> None:
        """Publish the result of a tool that the provider ran."""
        call = item.call
        if call is None or not call.call_id:
            return
        output, outputs = to_json(fields.get("output")), list_of(fields.get("outputs"))
        error = to_json(fields.get("error"))
        if item.kind == "mcp_call" and (output is not None or error is not None):
            message = None if error is None else _message(error)
            self.writer(0).tool_result(call.call_id, output, name=call.name or None, error=message)
        elif item.kind == "code_interpreter_call":
            results = [to_json(output) for output in outputs]
            self.writer(0).tool_result(call.call_id, results, name="code_interpreter")

    def _other(self, kind: str, item: Any) -> None:
        """Publish an item that has no arguments to stream."""
        data = {key: value for key, value in dict_of(to_json(item)).items() if key not in _OPAQUE}
        if kind == "compaction":
            return
        writer = self.writer(0)
        call_id = str_of(data.get("call_id"))
        if call_id and kind.endswith("_call"):
            body: Any = next((data[key] for key in _ARGUMENTS if data.get(key)), "")
            arguments = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
            is_hosted = is_provider_executed(kind, data)
            name = kind.removesuffix("_call")
            writer.tool_call(name, call_id, arguments, provider_executed=is_hosted)
        elif call_id and "output" in data:
            writer.tool_result(call_id, data["output"])
        elif kind == "image_generation_call":
            writer.part("file", name=kind, data=image_data(item))
        elif kind not in HOSTED_TOOLS:
            writer.part("data", name=kind, data=data)

    def _annotation(self, event: Any) -> None:
        self._source(getattr(event, "annotation", None))

    def _source(self, annotation: Any) -> None:
        data = to_json(annotation)
        mark = json.dumps(data, sort_keys=True, default=str)
        if isinstance(data, dict) and mark not in self._sources:
            self._sources.add(mark)
            self.writer(0).part("source", data=data)

    # -- ends

    def _ended(self, event: Any) -> None:
        fields = fields_of(getattr(event, "response", None))
        status = name_of(fields.get("status"))
        self._end(fields, status if status in _ENDS else event.type.removeprefix("response."))

    def _end(self, response: Mapping[str, Any], status: str | None) -> None:
        """The provider says how the response ended."""
        wholes = [WholeItem(item) for item in list_of(response.get("output"))]
        wholes = [whole for whole in wholes if whole.kind]
        for item, whole in zip(self._items.match(wholes), wholes, strict=True):
            if not item.done:
                self._whole(item, whole)
        self.flush()
        self._usage = dict_of(to_json(response.get("usage"))) or None
        writer = self.writer(0)
        error = response.get("error")
        if status == "failed" or (status is None and error):
            message = provider_message(error) or "the provider reported a failure"
            writer.fail(message, finish_reason=status, usage=self._usage)
        elif status == "cancelled":
            writer.cancel("the provider cancelled it", finish_reason=status, usage=self._usage)
        else:  # in background mode also "queued": nothing more comes this way
            writer.finish(status, self._usage)
        self.ended = True

    def _error(self, event: Any) -> None:
        self.flush()
        message = provider_message(fields_of(event)) or "the provider reported an error"
        self.writer(0).fail(message, usage=self._usage)
        self.ended = True

    _handlers: ClassVar[dict[str, Callable[[Any, Any], None]]] = {
        **dict.fromkeys((f"response.{name}.delta" for name in TEXTS), _delta),
        **dict.fromkeys((f"response.{name}.done" for name in TEXTS), _text_done),
        **dict.fromkeys((f"response.{name}.delta" for name in CALL_EVENTS), _arguments),
        **dict.fromkeys((f"response.{name}.done" for name in CALL_EVENTS), _arguments_done),
        "response.output_text.annotation.added": _annotation,
        "response.output_item.added": _item_added,
        "response.output_item.done": _item_done,
        **dict.fromkeys((f"response.{status}" for status in _ENDS), _ended),
        "error": _error,
    }


def _call(item: Item) -> ToolCall:
    """The tool call that an item is."""
    if item.call is None:
        item.call = ToolCall()
    return item.call


def _part_at(parts: list[TextPart], place: int | None, text: str) -> TextPart | None:
    """The part of which `text` is the whole: the one at its place, or else one that begins so."""
    at_place = (part for part in parts if part.place == place)
    alike = (part for part in parts if text.startswith(part.text) or part.text.startswith(text))
    return next(at_place, None) or next(alike, None)


def _message(error: Any) -> str:
    return provider_message(error) or json.dumps(error, default=str)
