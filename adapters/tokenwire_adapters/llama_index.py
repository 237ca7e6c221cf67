"""Stream what LlamaIndex's models, chat engines, query engines and agents produce.

>>> from llama_index.core.instrumentation import get_dispatcher
>>> from tokenwire_adapters.llama_index import TokenwireEventHandler
>>> get_dispatcher().add_event_handler(TokenwireEventHandler(channel="chat-42"))

See docs/llama-index.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import tokenwire
from tokenwire._options import choose_on_cancel
from tokenwire.claims import add_claim_finder
from tokenwire.context import resolve_channel
from tokenwire.instrument import Instrumentor, OnCancel, Options, record_claimed_calls, recorder_of
from tokenwire_adapters._agents.calls import (
    UNKNOWN_REASON,
    ModelCall,
    Reporter,
    ToolCalls,
    session_of,
)

try:
    from llama_index.core.instrumentation.event_handlers import BaseEventHandler
    from pydantic import PrivateAttr

    from tokenwire_adapters._agents.llama_index import spans
    from tokenwire_adapters._agents.llama_index.calls import Call, OpenCalls
    from tokenwire_adapters._agents.llama_index.content import Reader
except ImportError as error:  # pragma: no cover - tried without the extra by tests/wheel
    raise tokenwire.MissingExtra(
        'TokenwireEventHandler needs llama-index-core: pip install "tokenwire[llama-index]"'
    ) from error

__all__ = ["TokenwireEventHandler", "instrumentor"]

_reporter = Reporter("the LlamaIndex handler")
_tool_calls = ToolCalls()


_calls = OpenCalls()


class TokenwireEventHandler(BaseEventHandler):
    """Writes the tokens, tool calls and tool results of LlamaIndex into channels.

    One handler, added to the root dispatcher, serves the whole process, sync and async. It never
    changes or breaks a call, but for a cancel. Where two handlers see the same call, the first one
    publishes it.

    LlamaIndex swallows what its handlers raise, so a handler alone cannot stop a model. With
    `stop_provider`, calls are recorded in the provider's SDK below, where there is an instrumentor
    for it: a watcher's cancel closes the provider's response at once, and `ResponseCancelled`
    leaves the model's stream and ends the agent. Calls of other providers run on unseen.

    :param sink: where to write; by default `tokenwire.default_sink`, opened at the first call.
    :param channel: its name, or a function that returns it; by default the context's channel, else
        the ``thread_id`` (or ``session_id``) of LlamaIndex's `instrument_tags`.
    :param metadata: published with each response.
    :param on_cancel: with `stop_provider`, once a watcher has cancelled a response: ``"raise"``
        (the default): `ResponseCancelled` leaves the model's stream and ends the agent;
        ``"end"``: the model's stream ends, and the agent goes on.
    :param stop_provider: record the SDKs in use, for the calls of LlamaIndex alone.
    :raises ValueError: for another `on_cancel`.
    """

    _sink: tokenwire.Sink | None = PrivateAttr(default=None)
    _channel: str | Callable[[], str | None] | None = PrivateAttr(default=None)
    _metadata: Mapping[str, Any] = PrivateAttr(default_factory=dict)
    _on_cancel: OnCancel = PrivateAttr(default="raise")
    _stop_provider: bool = PrivateAttr(default=True)
    _automatic: bool = PrivateAttr(default=False)

    def __init__(
        self,
        sink: tokenwire.Sink | None = None,
        *,
        channel: str | Callable[[], str | None] | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_cancel: OnCancel | None = None,
        stop_provider: bool = True,
    ) -> None:
        super().__init__()
        self._sink = sink
        self._channel = channel
        self._metadata = dict(metadata or {})
        self._on_cancel = choose_on_cancel(on_cancel, None, "raise")
        self._stop_provider = stop_provider
        recorder_of(None)  # from now on, recorders note what they have read
        spans.install()
        spans.SPANS.on_exit = _span_exit
        spans.SPANS.on_drop = _span_drop
        add_claim_finder(_calls.find_claim)

    @classmethod
    def class_name(cls) -> str:
        return "TokenwireEventHandler"

    def __copy__(self) -> TokenwireEventHandler:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> TokenwireEventHandler:
        return self

    def handle(self, event: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish what one event of LlamaIndex brings. Never raises, but in strict mode."""
        step = _STEPS.get(type(event).__name__)
        if step is not None:
            try:
                step(self, event)
            except Exception as error:
                _reporter.report(error, self._sink)

    @property
    def _target(self) -> tokenwire.Sink:
        return self._sink if self._sink is not None else tokenwire.default_sink()

    def _start(self, event: Any) -> None:
        span = _span(event)
        other = _calls.by_span.get(span)
        if other is not None:
            if self._automatic or not getattr(other.owner, "_automatic", False):
                if other.owner is self:
                    other.depth += 1
                return
            model = _calls.remove(span, other)
            if model is not None:
                model.withdraw()
        if self._stop_provider:
            record_claimed_calls()
        tags: dict[str, Any] = event.tags
        above = _calls.above(span)
        call = Call(self, None)
        if not (tags.get("nostream") or (above is not None and above.model is None)):
            call.model = ModelCall(
                self._target,
                "llama_index",
                channel=self._channel,
                session=session_of(tags),
                response_id=span,
                run=spans.SPANS.root(span),
                metadata=self._published(event.model_dict),
                on_cancel=self._on_cancel,
                instrument=self._stop_provider,
                above=above.model if above is not None else None,
            )
        call.cover()
        _calls.add(span, call)

    def _published(self, model: dict[str, Any]) -> dict[str, Any]:
        """What watchers see of a model."""
        published: dict[str, Any] = {"framework": "llama_index"}
        for name, key in (("llm", "class_name"), ("model", "model_name")):
            if isinstance(model.get(key), str):
                published[name] = model[key]
        return {**published, **self._metadata}

    def _progress(self, event: Any) -> None:
        call = _calls.by_span.get(event.span_id or _span(event))
        if call is None or call.owner is not self or call.model is None:
            return
        model = call.model
        if model.recorded_below:
            return
        response = event.response
        if response is call.last:
            return  # a layer of LlamaIndex within another
        call.last = response
        if call.reader is None:
            call.reader = Reader()
            _read_by_recorder(model, response.raw)
        parts = model.parts or model.open()
        if parts is not None:
            call.reader.read(parts, response)

    def _end(self, event: Any) -> None:
        span = _span(event)
        call = _calls.by_span.get(span)
        if call is None or call.owner is not self:
            return
        call.depth -= 1
        if call.depth > 0:
            return
        model = _calls.remove(span, call)
        if model is None:
            return
        reader = call.reader or Reader()
        response = event.response
        if response is not None:
            if call.reader is None:
                _read_by_recorder(model, response.raw)
            reader.read_last(model.open(), response)
            for call_id, name in reader.tools.items():
                _tool_calls.add(model, call_id, name)
        reason = reader.finish_reason or (UNKNOWN_REASON if call.reader is not None else None)
        model.finish(reason, reader.usage)

    def _exception(self, event: Any) -> None:
        span = _span(event)
        call = _calls.by_span.get(span)
        if call is not None and call.owner is self:
            _calls.fail(span, call, event.exception)


_STEPS: dict[str, Callable[[TokenwireEventHandler, Any], None]] = {
    "LLMChatStartEvent": TokenwireEventHandler._start,  # pyright: ignore[reportPrivateUsage]
    "LLMCompletionStartEvent": TokenwireEventHandler._start,  # pyright: ignore[reportPrivateUsage]
    "LLMChatInProgressEvent": TokenwireEventHandler._progress,  # pyright: ignore[reportPrivateUsage]
    "LLMCompletionInProgressEvent": TokenwireEventHandler._progress,  # pyright: ignore[reportPrivateUsage]
    "LLMChatEndEvent": TokenwireEventHandler._end,  # pyright: ignore[reportPrivateUsage]
    "LLMCompletionEndEvent": TokenwireEventHandler._end,  # pyright: ignore[reportPrivateUsage]
    "ExceptionEvent": TokenwireEventHandler._exception,  # pyright: ignore[reportPrivateUsage]
}
"""By name: the other events are most of them, and cost no more than a look here."""


class _LlamaIndexInstrumentor(Instrumentor):
    """Adds a handler to the root dispatcher. One that the program adds itself comes first."""

    module = "llama_index.core"

    def start(self, options: Options) -> None:
        self.stop()
        handler = TokenwireEventHandler(
            options.sink, channel=options.channel, on_cancel=options.on_cancel
        )
        handler._automatic = True  # pyright: ignore[reportPrivateUsage]
        spans.root_dispatcher().add_event_handler(handler)

    def stop(self) -> None:
        root = spans.root_dispatcher()
        root.event_handlers = [
            handler
            for handler in root.event_handlers
            if not (isinstance(handler, TokenwireEventHandler) and handler._automatic)  # pyright: ignore[reportPrivateUsage]
        ]


instrumentor = _LlamaIndexInstrumentor()
"""Publishes every call of LlamaIndex; see `tokenwire.instrument`."""


def _span(event: Any) -> str:
    """The span of an event; where there is none, the thread has to do."""
    return event.span_id or f"thread-{threading.get_ident()}"


def _read_by_recorder(model: ModelCall, raw: Any) -> None:
    """Leave the stream to a recorder that found no claim (it reads in a thread of its own)."""
    recorder = recorder_of(raw)
    if recorder is not None and not model.claim.taken:
        model.recorded_below = True


def _span_drop(span: str, error: BaseException | None) -> None:
    """A span broke off: there is no event for a call that fails before its first token."""
    call = _calls.by_span.get(span)
    if call is not None:
        try:
            _calls.fail(span, call, error)
        except Exception as problem:
            _reporter.report(problem)


def _span_exit(span: str, result: Any) -> None:
    """A span is over, of a model's call perhaps, or of an agent's `call_tool` step."""
    try:
        call = _calls.by_span.get(span)
        if call is not None:
            _calls.follow(call, result, lambda: _span_drop(span, GeneratorExit()))
        elif type(result).__name__ == "ToolCallResult":
            _publish_result(span, result)
    except Exception as problem:
        _reporter.report(problem)


def _publish_result(span: str, result: Any) -> None:
    call_id = str(result.tool_id)
    output = result.tool_output
    text = getattr(output, "content", None)
    if text is None:
        text = str(output)
    failed = bool(getattr(output, "is_error", False))
    answer, error = (None, str(text)) if failed else (text, None)
    if _tool_calls.publish_result(call_id, answer, name=result.tool_name, error=error):
        return
    # An agent that calls tools in its text makes up ids of its own.
    for handler in spans.root_dispatcher().event_handlers:
        if isinstance(handler, TokenwireEventHandler):
            sink, channel = handler._target, handler._channel  # pyright: ignore[reportPrivateUsage]
            sink.tool_result(
                resolve_channel(channel, default=sink.default_channel),
                call_id,
                answer,
                run=spans.SPANS.root(span),
                name=result.tool_name,
                error=error,
            )
            return
