"""Chat Completions, as OpenAI and the many servers that speak its API stream them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokenwire import ResponseWriter
from tokenwire.instrument import Options
from tokenwire_adapters._agents.openai.tool_calls import ToolCallReader
from tokenwire_adapters._agents.stainless.recorder import StainlessRecorder
from tokenwire_adapters._agents.values import (
    dict_of,
    fields_of,
    index_of,
    list_of,
    name_of,
    provider_message,
    str_of,
    to_json,
)

__all__ = ["ChatRecorder", "ChoiceState"]

_NO_OBJECT = object()
"""In the place of the fields of what is no object."""


class ChoiceState:
    """What has been written of one choice: one of the replies to a request.

    :ivar error: the provider's message, where the choice ended with an error.
    """

    __slots__ = ("calls", "error", "finish", "index", "sources", "write", "writer")

    def __init__(self, writer: ResponseWriter, index: int) -> None:
        self.writer = writer
        self.index = index
        self.write = writer.write
        self.finish: str | None = None
        self.error: str | None = None
        self.calls = ToolCallReader(writer)
        self.sources: set[str] = set()


class ChatRecorder(StainlessRecorder):
    """Reads ``chat.completion.chunk`` and ``chat.completion`` objects.

    Each choice (``n > 1``) is a response of its own; they share a run. The SDK does not validate
    what it reads: any field may be of any type, and one that cannot be read costs itself alone.
    https://platform.openai.com/docs/api-reference/chat-streaming
    """

    provider = "openai"
    api = "chat.completions"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._choices: dict[int, ChoiceState] = {}
        self._usage: dict[str, Any] | None = None
        self._error: str | None = None
        self._is_whole = False  # it came in one piece, or the chunk that comes last has come
        count = self.request.get("n")
        self._expected = count if isinstance(count, int) and count > 0 else 1

    def feed(self, item: Any) -> None:
        # The usual chunk takes the shortest way, past the slow attributes of Pydantic's models:
        # text of one choice, and nothing else. `read` takes every other one.
        try:
            fields = item.__dict__
            (choice,) = fields["choices"]
            choice = choice.__dict__
            delta = choice["delta"]
            index = choice["index"]
            contents = delta.__dict__
            text = contents["content"]
            state = self._choices[index]
            usual = (
                type(text) is str
                and index is state.index  # False is no number, though it is found like 0
                and not contents["tool_calls"]
                and not choice["finish_reason"]
                and fields["usage"] is None
                and not delta.__pydantic_extra__
                and not item.__pydantic_extra__
                and state.calls.naming is None
            )
        except Exception:
            usual, text, state = False, "", None
        if usual and state is not None and text and not self.ended:
            write = state.write  # to call the attribute would be to look for a method first
            write(text)
        else:
            super().feed(item)

    def feed_usual(self, item: Any) -> None:
        """Take a chunk that `wires.usual_events` has decoded: there is nothing but text in it."""
        choices = item.choices
        state = self._choices.get(choices[0].index) if len(choices) == 1 else None
        text = choices[0].delta.content if state is not None else ""
        if state is not None and text and state.calls.naming is None and not self.ended:
            state.write(text)
        else:
            super().feed(item)

    def read(self, item: Any) -> None:
        choices = getattr(item, "choices", None)
        if type(choices) is not list:
            self._read_error(item)
            choices = ()
        for choice in cast("list[Any]", choices):
            delta: Any = getattr(choice, "delta", None)
            extra: Any = getattr(delta, "model_extra", _NO_OBJECT)
            index = getattr(choice, "index", None)
            state = (self._choices.get(index) if type(index) is int else None) or self._choice(
                index
            )
            if extra is not _NO_OBJECT:
                if state.calls.naming is not None:
                    state.calls.begin_named(delta)
                if extra:
                    self._extra(state, extra)
                text: Any = getattr(delta, "content", None)
                if text:
                    if type(text) is str:
                        state.write(text)
                    else:
                        _blocks(state, text)
                    if getattr(
                        delta, "tool_calls", None
                    ):  # with the text, as some servers send them
                        self._rest(state, delta)
                else:
                    self._rest(state, delta)
                    _speech(state, getattr(delta, "audio", None))
            if getattr(choice, "finish_reason", None):  # some servers send an empty one each time
                self._end_choice(state, choice, item)
        self._read_rest(item)

    def _read_rest(self, item: Any) -> None:
        """Read what a chunk has beside its choices."""
        extra = getattr(item, "model_extra", None)
        if extra and "citations" in extra:  # Perplexity's way: the whole list, with each chunk
            for state in self._choices.values():
                _sources(state, extra["citations"])
        self._count(item)

    def _end_choice(self, state: ChoiceState, choice: Any, item: Any) -> None:
        """Take what a choice says of its end."""
        reason = name_of(getattr(choice, "finish_reason", None))
        if reason:
            extra: Any = getattr(choice, "model_extra", None)
            if extra and extra.get("error"):
                state.error = provider_message(extra["error"])
            self._finish(state, reason, item)

    def _count(self, item: Any) -> None:
        """Take the usage, which comes last, in a chunk without choices."""
        usage = getattr(item, "usage", None)
        if usage is not None:
            self._usage = dict_of(to_json(usage)) or self._usage
            if not getattr(item, "choices", None):
                self._is_whole = True
                if self._all_finished():
                    self.end()

    def _read_error(self, item: Any) -> None:
        """Take an error that came in the place of a chunk, or of a whole reply.

        vLLM's ``{"object": "error"}``, FastAPI's ``{"detail": …}``; the SDK raises no error for
        these, nor for any whole reply that comes with status 200.
        """
        fields = fields_of(item)
        if "error" in (fields.get("object"), fields.get("type")):
            self._error = provider_message(item) or "the provider reported an error"
        elif fields.get("error") or fields.get("detail"):
            self._error = provider_message(item)

    def feed_reply(self, reply: Any) -> None:
        self._is_whole = True
        self._usage = dict_of(to_json(getattr(reply, "usage", None))) or None
        choices: Any = getattr(reply, "choices", None)
        if not choices:
            self._read_error(reply)
        for choice in list_of(choices):
            state = self._choice(getattr(choice, "index", None))
            self._whole_choice(state, choice)
            state.finish = name_of(getattr(choice, "finish_reason", None)) or None

    def _whole_choice(self, state: ChoiceState, choice: Any) -> None:
        """Write a choice that came whole."""
        message = getattr(choice, "message", None)
        self._extra(state, dict_of(getattr(message, "model_extra", None)))
        content = getattr(message, "content", None)
        if content:
            _blocks(state, content)
        else:
            _speech(state, getattr(message, "audio", None))
        self._rest(state, message)
        _sources(state, getattr(message, "annotations", None))

    def flush(self) -> None:
        for state in self._choices.values():
            state.calls.finish()

    def finish(self) -> None:
        self.flush()
        for index in range(self._expected if not self._choices else 1):
            self.writer(index)
        is_whole = self._is_whole or self.terminated is not False
        for index, writer in self.writers.items():
            state = self._choices.get(index)
            reason = state.finish if state is not None else None
            error = (state.error if state is not None else None) or self._error
            self.end_writer(writer, reason, error, is_whole=is_whole)

    def usage(self) -> dict[str, Any] | None:
        return self._usage

    def finish_reason(self, index: int) -> str | None:
        state = self._choices.get(index)
        return state.finish if state is not None else None

    def _choice(self, index: Any) -> ChoiceState:
        place = index_of(index) or 0  # a server with one choice may give it no index
        choice = self._choices.get(place)
        if choice is None:
            choice = self._choices[place] = ChoiceState(self.writer(place), place)
        return choice

    def _all_finished(self) -> bool:
        return len(self._choices) >= self._expected and all(
            state.finish is not None for state in self._choices.values()
        )

    def _finish(self, state: ChoiceState, reason: str, item: Any) -> None:
        state.finish = reason
        state.calls.finish()
        if self._all_finished():
            self.settle_later(item)

    def _rest(self, state: ChoiceState, delta: Any) -> None:
        """Read what a delta (or a message) has beside its text."""
        refusal = getattr(delta, "refusal", None)
        if refusal and isinstance(refusal, str):
            state.write(refusal, kind="refusal")
        for place, tool_call in enumerate(list_of(getattr(delta, "tool_calls", None))):
            state.calls.read(place, tool_call)
        legacy = getattr(delta, "function_call", None)
        if legacy is not None:
            state.calls.read_function(legacy)

    def _extra(self, state: ChoiceState, extra: Mapping[str, Any]) -> None:
        """Read what the SDK's class has no field for: reasoning, under either name, and sources."""
        reasoning = extra.get("reasoning_content") or extra.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            state.write(reasoning, kind="reasoning")
        if "annotations" in extra:
            _sources(state, extra["annotations"])


def _speech(state: ChoiceState, audio: Any) -> None:
    """Write what is said; the sound is not published. Older SDKs have no class for it in chunks."""
    if audio is not None:
        spoken = str_of(fields_of(audio).get("transcript"))
        if spoken:
            state.write(spoken)


_THOUGHTS = ("thinking", "reasoning", "reasoning_content", "summary", "content", "text")
"""Where blocks of thoughts have their text, or a list of further blocks."""


def _blocks(state: ChoiceState, content: Any) -> None:
    """Write a message's content, which some servers give as a list of blocks."""
    if isinstance(content, str):
        state.write(content)
        return
    for block in list_of(content) or [content]:
        fields = fields_of(block)
        kind = fields.get("type")
        if isinstance(block, str) or kind in ("text", "output_text"):
            text = block if isinstance(block, str) else str_of(fields.get("text"))
            if text:
                state.write(text)
        elif kind in ("thinking", "reasoning"):
            _thoughts(state, block, 0)
        elif kind == "refusal" and str_of(fields.get("refusal")):
            state.write(fields["refusal"], kind="refusal")


def _thoughts(state: ChoiceState, block: Any, depth: int) -> None:
    """Write a block of thoughts: text, or under one of several names, text or further blocks."""
    if isinstance(block, str):
        if block:
            state.write(block, kind="reasoning")
    elif depth < 4:
        fields = fields_of(block)
        for inner in list_of(block) or [fields[name] for name in _THOUGHTS if name in fields]:
            _thoughts(state, inner, depth + 1)


def _sources(state: ChoiceState, citations: Any) -> None:
    """Write each citation once, as a source."""
    for citation in list_of(citations):
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
