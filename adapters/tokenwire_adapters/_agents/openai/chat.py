"""Chat Completions, as OpenAI and the many servers that speak its API stream them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from tokenwire import PartWriter, ResponseWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder, to_json

__all__ = ["ChatRecorder"]


class _Choice:
    """One of the replies to a request."""

    __slots__ = ("calls", "finish", "parts", "sources", "write", "writer")

    def __init__(self, writer: ResponseWriter) -> None:
        self.writer = writer
        self.write = writer.write
        self.finish: str | None = None
        self.calls: dict[Any, _Call] = {}
        self.parts: list[_Call] = []
        self.sources: set[str] = set()


class _Call:
    """A tool call that grows. It begins in the channel when its name is known."""

    __slots__ = ("arguments", "call_id", "name", "part")

    def __init__(self) -> None:
        self.call_id: str | None = None
        self.name: str | None = None
        self.arguments = ""
        self.part: PartWriter | None = None

    def grow(self, writer: ResponseWriter, arguments: str | None) -> None:
        if self.part is not None:
            if arguments:
                self.part.write(arguments)
            return
        self.arguments += arguments or ""
        if self.name:
            self.begin(writer)

    def begin(self, writer: ResponseWriter) -> None:
        if self.part is None:
            self.part = writer.part(
                "tool_call", name=self.name, call_id=self.call_id, text=self.arguments
            )


class ChatRecorder(StainlessRecorder):
    """Reads ``chat.completion.chunk`` and ``chat.completion`` objects.

    Each choice (``n > 1``) is a response of its own; they share a run.
    https://platform.openai.com/docs/api-reference/chat-streaming
    """

    provider = "openai"
    api = "chat.completions"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] | None = None
        wanted = self.request.get("n")
        self._wanted = wanted if isinstance(wanted, int) and wanted > 0 else 1

    def feed(self, item: Any) -> None:
        choices = item.choices
        for choice in choices or ():
            index = choice.index
            one = self._choices.get(index) or self._choice(index)
            delta = choice.delta
            if delta is not None:
                extra = delta.model_extra
                if extra:
                    self._extra(one, extra)
                text = delta.content
                if text:
                    if type(text) is str:
                        one.write(text)
                    else:
                        _blocks(one, text)
                    if delta.tool_calls:  # with the text, as some servers send them
                        self._rest(one, delta)
                else:
                    self._rest(one, delta)
                    _speech(one, getattr(delta, "audio", None))
            if choice.finish_reason:  # some servers send an empty one with each chunk
                self._finish(one, choice.finish_reason, item)
        extra = item.model_extra
        if extra and "citations" in extra:  # Perplexity's way: the whole list, with each chunk
            for one in self._choices.values():
                _sources(one, extra["citations"])
        self._count(item)

    def _count(self, item: Any) -> None:
        """Take the usage, which comes last, in a chunk without choices."""
        if item.usage is not None:
            self._usage = to_json(item.usage)
            if not item.choices and self._all_finished():
                self.end()

    def feed_reply(self, reply: Any) -> None:
        self._usage = to_json(reply.usage) if reply.usage is not None else None
        for choice in reply.choices or ():
            message = choice.message
            one = self._choice(choice.index)
            self._extra(one, cast("Any", getattr(message, "model_extra", None) or {}))
            if message.content:
                _blocks(one, message.content)
            else:
                _speech(one, getattr(message, "audio", None))
            self._rest(one, message)
            _sources(one, getattr(message, "annotations", None))
            one.finish = choice.finish_reason

    def finish(self) -> None:
        for index in range(self._wanted if not self._choices else 1):
            self.writer(index)
        for index, writer in self.writers.items():
            writer.finish(self.finish_reason(index), self._usage)

    def usage(self) -> dict[str, Any] | None:
        return self._usage

    def finish_reason(self, index: int) -> str | None:
        one = self._choices.get(index)
        return one.finish if one is not None else None

    def _choice(self, index: int | None) -> _Choice:
        place = index or 0  # a server with one choice may give it no index
        found = self._choices.get(place)
        if found is None:
            found = self._choices[place] = _Choice(self.writer(place))
        return found

    def _all_finished(self) -> bool:
        return len(self._choices) >= self._wanted and all(
            one.finish is not None for one in self._choices.values()
        )

    def _finish(self, one: _Choice, reason: str, item: Any) -> None:
        one.finish = reason
        for call in one.parts:  # one that never got a name
            call.begin(one.writer)
        if self._all_finished():
            self.settle_later(item)

    def _rest(self, one: _Choice, delta: Any) -> None:
        """Read what a delta (or a message) has beside its text."""
        if delta.refusal:
            one.write(delta.refusal, kind="refusal")
        for place, told in enumerate(delta.tool_calls or ()):
            _tool_call(one, place, told)
        legacy = getattr(delta, "function_call", None)
        if legacy is not None:
            call = one.calls.get("function_call")
            if call is None:
                call = one.calls["function_call"] = _Call()
                one.parts.append(call)
            call.name = call.name or legacy.name
            call.grow(one.writer, legacy.arguments)

    def _extra(self, one: _Choice, extra: Mapping[str, Any]) -> None:
        """Read what the SDK's class has no field for: reasoning, under either name, and sources."""
        reasoning = extra.get("reasoning_content") or extra.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            one.write(reasoning, kind="reasoning")
        if "annotations" in extra:
            _sources(one, extra["annotations"])


def _speech(one: _Choice, audio: Any) -> None:
    """Write what is said; the sound is not published. Older SDKs have no class for it in chunks."""
    if isinstance(audio, Mapping):
        spoken = cast("Mapping[str, Any]", audio).get("transcript")
    else:
        spoken = getattr(audio, "transcript", None)
    if isinstance(spoken, str) and spoken:
        one.write(spoken)


def _blocks(one: _Choice, content: Any) -> None:
    """Write a message's content, which some servers give as a list of blocks."""
    if isinstance(content, str):
        one.write(content)
        return
    for block in cast("list[Any]", content):
        told = to_json(block)
        if not isinstance(told, Mapping):
            continue
        told = cast("Mapping[str, Any]", told)
        if told.get("type") == "text" and isinstance(told.get("text"), str):
            one.write(told["text"])
        elif told.get("type") == "thinking":
            thinking = told.get("thinking")
            for inner in cast("list[Any]", thinking) if isinstance(thinking, list) else [thinking]:
                text = cast("Any", inner).get("text") if isinstance(inner, Mapping) else inner
                if isinstance(text, str) and text:
                    one.write(text, kind="reasoning")


def _tool_call(one: _Choice, place: int, told: Any) -> None:
    index = getattr(told, "index", None)
    key: Any = place if index is None else index
    call = one.calls.get(key)
    # Some servers give every call the index 0: another id and a name begin another call, and so
    # does a name where the call before it came whole and neither has an id.
    called = told.function if getattr(told, "function", None) is not None else None
    custom = getattr(told, "custom", None) if called is None else None
    if isinstance(custom, Mapping):  # in chunks the SDK has no class for it
        custom = SimpleNamespace(**cast("dict[str, Any]", custom))
    name = getattr(called, "name", None) or getattr(custom, "name", None)
    if call is None or (name and _is_another(call, told.id)):
        call = one.calls[key] = _Call()
        one.parts.append(call)
    call.call_id = call.call_id or told.id
    call.name = call.name or name
    arguments = getattr(called, "arguments", None) or getattr(custom, "input", None)
    call.grow(one.writer, arguments)


def _is_another(call: _Call, call_id: str | None) -> bool:
    """Say whether what begins with a name is not the call that has its index."""
    if call_id and call.call_id:
        return call_id != call.call_id
    return not call_id and not call.call_id and bool(call.name and call.arguments)


def _sources(one: _Choice, told: Any) -> None:
    """Write each citation once, as a source."""
    if not isinstance(told, list | tuple):
        return
    for each in cast("list[Any]", told):
        data = _source(to_json(each))
        mark = repr(data)
        if data is not None and mark not in one.sources:
            one.sources.add(mark)
            one.writer.part("source", data=data)


def _source(told: Any) -> dict[str, Any] | None:
    if isinstance(told, str):
        return {"type": "url_citation", "url": told}
    if not isinstance(told, dict):
        return None
    data = cast("dict[str, Any]", told)
    nested = data.get("url_citation")
    return {"type": "url_citation", **nested} if isinstance(nested, dict) else data
