"""Chat Completions, as OpenAI and the many servers that speak its API stream them."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from tokenwire import PartWriter, ResponseWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder, to_json

__all__ = ["ChatRecorder"]


class _ChoiceState:
    """What has been written of one choice: one of the replies to a request."""

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
        self._choices: dict[int, _ChoiceState] = {}
        self._usage: dict[str, Any] | None = None
        count = self.request.get("n")
        self._expected = count if isinstance(count, int) and count > 0 else 1

    def feed(self, item: Any) -> None:
        choices = item.choices
        for choice in choices or ():
            index = choice.index
            state = self._choices.get(index) or self._choice(index)
            delta = choice.delta
            if delta is not None:
                extra = delta.model_extra
                if extra:
                    self._extra(state, extra)
                text = delta.content
                if text:
                    if type(text) is str:
                        state.write(text)
                    else:
                        _blocks(state, text)
                    if delta.tool_calls:  # with the text, as some servers send them
                        self._rest(state, delta)
                else:
                    self._rest(state, delta)
                    _speech(state, getattr(delta, "audio", None))
            if choice.finish_reason:  # some servers send an empty one with each chunk
                self._finish(state, choice.finish_reason, item)
        extra = item.model_extra
        if extra and "citations" in extra:  # Perplexity's way: the whole list, with each chunk
            for state in self._choices.values():
                _sources(state, extra["citations"])
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
            state = self._choice(choice.index)
            self._extra(state, cast("Any", getattr(message, "model_extra", None) or {}))
            if message.content:
                _blocks(state, message.content)
            else:
                _speech(state, getattr(message, "audio", None))
            self._rest(state, message)
            _sources(state, getattr(message, "annotations", None))
            state.finish = choice.finish_reason

    def finish(self) -> None:
        for index in range(self._expected if not self._choices else 1):
            self.writer(index)
        for index, writer in self.writers.items():
            writer.finish(self.finish_reason(index), self._usage)

    def usage(self) -> dict[str, Any] | None:
        return self._usage

    def finish_reason(self, index: int) -> str | None:
        state = self._choices.get(index)
        return state.finish if state is not None else None

    def _choice(self, index: int | None) -> _ChoiceState:
        place = index or 0  # a server with one choice may give it no index
        choice = self._choices.get(place)
        if choice is None:
            choice = self._choices[place] = _ChoiceState(self.writer(place))
        return choice

    def _all_finished(self) -> bool:
        return len(self._choices) >= self._expected and all(
            state.finish is not None for state in self._choices.values()
        )

    def _finish(self, state: _ChoiceState, reason: str, item: Any) -> None:
        state.finish = reason
        for call in state.parts:  # one that never got a name
            call.begin(state.writer)
        if self._all_finished():
            self.settle_later(item)

    def _rest(self, state: _ChoiceState, delta: Any) -> None:
        """Read what a delta (or a message) has beside its text."""
        if delta.refusal:
            state.write(delta.refusal, kind="refusal")
        for place, tool_call in enumerate(delta.tool_calls or ()):
            _tool_call(state, place, tool_call)
        legacy = getattr(delta, "function_call", None)
        if legacy is not None:
            call = state.calls.get("function_call")
            if call is None:
                call = state.calls["function_call"] = _Call()
                state.parts.append(call)
            call.name = call.name or legacy.name
            call.grow(state.writer, legacy.arguments)

    def _extra(self, state: _ChoiceState, extra: Mapping[str, Any]) -> None:
        """Read what the SDK's class has no field for: reasoning, under either name, and sources."""
        reasoning = extra.get("reasoning_content") or extra.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            state.write(reasoning, kind="reasoning")
        if "annotations" in extra:
            _sources(state, extra["annotations"])


def _speech(state: _ChoiceState, audio: Any) -> None:
    """Write what is said; the sound is not published. Older SDKs have no class for it in chunks."""
    if isinstance(audio, Mapping):
        spoken = cast("Mapping[str, Any]", audio).get("transcript")
    else:
        spoken = getattr(audio, "transcript", None)
    if isinstance(spoken, str) and spoken:
        state.write(spoken)


def _blocks(state: _ChoiceState, content: Any) -> None:
    """Write a message's content, which some servers give as a list of blocks."""
    if isinstance(content, str):
        state.write(content)
        return
    for block in cast("list[Any]", content):
        fields = to_json(block)
        if not isinstance(fields, Mapping):
            continue
        fields = cast("Mapping[str, Any]", fields)
        if fields.get("type") == "text" and isinstance(fields.get("text"), str):
            state.write(fields["text"])
        elif fields.get("type") == "thinking":
            thinking = fields.get("thinking")
            for inner in cast("list[Any]", thinking) if isinstance(thinking, list) else [thinking]:
                text = cast("Any", inner).get("text") if isinstance(inner, Mapping) else inner
                if isinstance(text, str) and text:
                    state.write(text, kind="reasoning")


def _tool_call(state: _ChoiceState, place: int, delta: Any) -> None:
    index = getattr(delta, "index", None)
    key: Any = place if index is None else index
    call = state.calls.get(key)
    # Some servers give every call the index 0: another id and a name begin another call, and so
    # does a name where the call before it came whole and neither has an id.
    function = getattr(delta, "function", None)
    custom = getattr(delta, "custom", None) if function is None else None
    if isinstance(custom, Mapping):  # in chunks the SDK has no class for it
        custom = SimpleNamespace(**cast("dict[str, Any]", custom))
    name = getattr(function, "name", None) or getattr(custom, "name", None)
    if call is None or (name and _is_another(call, delta.id)):
        call = state.calls[key] = _Call()
        state.parts.append(call)
    call.call_id = call.call_id or delta.id
    call.name = call.name or name
    arguments = getattr(function, "arguments", None) or getattr(custom, "input", None)
    call.grow(state.writer, arguments)


def _is_another(call: _Call, call_id: str | None) -> bool:
    """Say whether what begins with a name is not the call that has its index."""
    if call_id and call.call_id:
        return call_id != call.call_id
    return not call_id and not call.call_id and bool(call.name and call.arguments)


def _sources(state: _ChoiceState, citations: Any) -> None:
    """Write each citation once, as a source."""
    if not isinstance(citations, list | tuple):
        return
    for citation in cast("list[Any]", citations):
        data = _source(to_json(citation))
        key = repr(data)
        if data is not None and key not in state.sources:
            state.sources.add(key)
            state.writer.part("source", data=data)


def _source(citation: Any) -> dict[str, Any] | None:
    if isinstance(citation, str):
        return {"type": "url_citation", "url": citation}
    if not isinstance(citation, dict):
        return None
    data = cast("dict[str, Any]", citation)
    nested = data.get("url_citation")
    return {"type": "url_citation", **nested} if isinstance(nested, dict) else data
