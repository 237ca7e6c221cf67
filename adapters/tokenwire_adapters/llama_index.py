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
from tokenwire.claims import Claim, add_claim_finder, current_claim, set_claim
from tokenwire.context import resolve_channel
from tokenwire.instrument import Instrumentor, OnCancel, Options, record_claimed_calls, recorder_of
from tokenwire_adapters._agents.calls import MAX_CALLS, ModelCall, Reporter, ToolCalls

try:
    from llama_index.core.instrumentation.event_handlers import BaseEventHandler
    from pydantic import PrivateAttr

    from tokenwire_adapters._agents.llama_index import spans
    from tokenwire_adapters._agents.llama_index.content import Reader
    from tokenwire_adapters._agents.llama_index.streams import Streams
except ImportError as error:  # pragma: no cover - tried without the extra by tests/wheel
    raise tokenwire.MissingExtra(
        'TokenwireEventHandler needs llama-index-core: pip install "tokenwire[llama-index]"'
    ) from error

__all__ = ["TokenwireEventHandler", "instrumentor"]

_reporter = Reporter("the LlamaIndex handler")
_tool_calls = ToolCalls()


class _Call:
    """A call of a model that is going on.

    :ivar model: None where the call is not to be shown.
    :ivar depth: how many layers of LlamaIndex tell of it under one span.
    :ivar stream: the key of the generator that the call gave.
    """

    __slots__ = ("depth", "last", "model", "outer", "owner", "reader", "stream", "suppressed")

    def __init__(self, owner: object, model: ModelCall | None) -> None:
        self.owner = owner
        self.model = model
        self.reader: Reader | None = None
        self.suppressed: Claim | None = None
        self.outer: Claim | None = None
        self.depth = 1
        self.last: object = None
        self.stream: int | None = None

    def suppress(self) -> None:
        """Have the layers below keep quiet."""
        self.outer = current_claim()
        self.suppressed = Claim()
        self.suppressed.suppress(self)
        set_claim(self.suppressed)

    def uncover(self) -> None:
        """Let what this context does from now on be another call."""
        if self.model is not None:
            self.model.uncover()
        elif current_claim() is self.suppressed:
            set_claim(self.outer)


_calls: dict[str, _Call] = {}
"""By span. Without a lock: the garbage collector ends calls, too, wherever it comes by."""

_streams: Streams[_Call] = Streams()


def _find_claim() -> Claim | None:
    """The claim of the call whose generator is on the stack."""
    call = _streams.running()
    if call is None:
        return None
    return call.model.claim if call.model is not None else call.suppressed


class TokenwireEventHandler(BaseEventHandler):
    """Writes the tokens, tool calls and tool results of LlamaIndex into channels.

    One handler, added to the root dispatcher, serves the whole process, sync and async. It never
    changes or breaks a call, but for a cancel. Where two handlers see the same call, the first one
    has it.

    LlamaIndex swallows what its handlers raise, so a handler alone cannot stop a model. With
    `stop_provider`, the calls that go through the SDKs of OpenAI and Anthropic are listened to
    there: a watcher's cancel closes the provider's response at once, and `ResponseCancelled`
    leaves the model's stream and ends the agent. Calls of other providers run on unseen.

    :param sink: where to write; by default `tokenwire.default_sink`, opened at the first call.
    :param channel: its name, or a function that gives it; by default the context's channel, else
        the ``thread_id`` (or ``session_id``) of LlamaIndex's `instrument_tags`.
    :param metadata: told to watchers with each response.
    :param on_cancel: with `stop_provider`, once a watcher has cancelled a response: ``"raise"``
        (the default): `ResponseCancelled` leaves the model's stream and ends the agent;
        ``"end"``: the model's stream ends, and the agent goes on.
    :param stop_provider: patch the streams of the SDKs in use, for the calls of LlamaIndex alone.
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
        spans.TREE.on_exit = _span_exit
        spans.TREE.on_drop = _span_drop
        add_claim_finder(_find_claim)

    @classmethod
    def class_name(cls) -> str:
        return "TokenwireEventHandler"

    def __copy__(self) -> TokenwireEventHandler:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> TokenwireEventHandler:
        return self

    def handle(self, event: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Take one event of LlamaIndex. Never raises, but in strict mode."""
        step = _STEPS.get(type(event).__name__)
        if step is not None:
            try:
                step(self, event)
            except Exception as error:
                _reporter.report(error, self._sink)

    def _start(self, event: Any) -> None:
        span = _span(event)
        call = _calls.get(span)
        if call is not None:
            if self._automatic or not getattr(call.owner, "_automatic", False):
                if call.owner is self:
                    call.depth += 1
                return
            _forget(span, call)
            if call.model is not None:
                call.model.withdraw()
        if self._stop_provider:
            record_claimed_calls()
        tags: dict[str, Any] = event.tags
        call = _Call(self, None)
        above = _above(span)
        if tags.get("nostream") or (above is not None and above.model is None):
            call.suppress()
        else:
            call.model = ModelCall(
                self._sink if self._sink is not None else tokenwire.default_sink(),
                "llama_index",
                channel=self._channel,
                session=_session(tags),
                response_id=span,
                run=spans.TREE.root(span),
                metadata=self._describe(event.model_dict),
                on_cancel=self._on_cancel,
                instrument=self._stop_provider,
                above=above.model if above is not None else None,
            )
            call.model.cover()
        _calls[span] = call
        if len(_calls) > MAX_CALLS:
            oldest = next(iter(_calls.copy()))
            dropped = _forget(oldest, _calls.get(oldest))
            if dropped is not None:
                dropped.cancel("too many calls are open")

    def _describe(self, model: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"framework": "llama_index"}
        for name, key in (("llm", "class_name"), ("model", "model_name")):
            if isinstance(model.get(key), str):
                told[name] = model[key]
        return {**told, **self._metadata}

    def _progress(self, event: Any) -> None:
        call = _calls.get(event.span_id or _span(event))
        if call is None or call.owner is not self or call.model is None:
            return
        model = call.model
        if model.below:
            return
        response = event.response
        if response is call.last:
            return  # a layer of LlamaIndex within another
        call.last = response
        if call.reader is None:
            call.reader = Reader()
            _match(model, response.raw)
        parts = model.parts or model.open()
        if parts is not None:
            call.reader.read(parts, response)

    def _end(self, event: Any) -> None:
        span = _span(event)
        call = _calls.get(span)
        if call is None or call.owner is not self:
            return
        call.depth -= 1
        if call.depth > 0:
            return
        model = _forget(span, call)
        if model is None:
            return
        reader = call.reader or Reader()
        response = event.response
        if response is not None:
            if call.reader is None:
                _match(model, response.raw)
            reader.read_last(model.open(), response)
            for call_id, name in reader.tools.items():
                _tool_calls.learn(model, call_id, name)
        model.finish(reader.finish_reason, reader.usage)

    def _exception(self, event: Any) -> None:
        call = _calls.get(_span(event))
        if call is not None and call.owner is self:
            _fail(_span(event), call, event.exception)


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


def _session(tags: dict[str, Any]) -> str | None:
    for key in ("thread_id", "session_id", "conversation_id"):
        if tags.get(key):
            return str(tags[key])
    return None


def _above(span: str) -> _Call | None:
    """The call that makes this one: the one of a span around it, or whose stream is being read."""
    for at in spans.TREE.above(span):
        call = _calls.get(at)
        if call is not None:
            return call
    return _streams.running()


def _match(model: ModelCall, raw: Any) -> None:
    """Leave the stream to a recorder that found no claim (it reads in a thread of its own)."""
    recorder = recorder_of(raw)
    if recorder is not None and not model.claim.taken:
        model.below = True


def _forget(span: str, call: _Call | None) -> ModelCall | None:
    """Forget a call, and return what is to be ended."""
    if call is None:
        return None
    if _calls.get(span) is call:
        _calls.pop(span, None)
    _streams.remove(call.stream, call)
    if call.suppressed is not None:
        call.uncover()
        call.suppressed.close()
    return call.model


def _fail(span: str, call: _Call, error: BaseException | None) -> None:
    model = _forget(span, call)
    if model is not None:
        if error is None:
            model.cancel()
        else:
            model.fail(error)


def _span_drop(span: str, error: BaseException | None) -> None:
    """A span broke off: no event tells of a call that fails before its first token."""
    call = _calls.get(span)
    if call is not None:
        try:
            _fail(span, call, error)
        except Exception as wrong:
            _reporter.report(wrong)


def _span_exit(span: str, result: Any) -> None:
    """A span is over, of a model's call perhaps, or of an agent's `call_tool` step."""
    try:
        call = _calls.get(span)
        if call is not None:
            _follow(span, call, result)
        elif type(result).__name__ == "ToolCallResult":
            _tell(span, result)
    except Exception as wrong:
        _reporter.report(wrong)


def _follow(span: str, call: _Call, result: Any) -> None:
    """Know a call by its generator from now on, no longer by its context."""

    def gone() -> None:
        _span_drop(span, GeneratorExit())

    call.stream = _streams.add(result, call, gone)
    if call.stream is not None:
        call.uncover()


def _tell(span: str, result: Any) -> None:
    call_id = str(result.tool_id)
    output = result.tool_output
    failed = bool(getattr(output, "is_error", False))
    text = getattr(output, "content", None)
    if text is None:
        text = str(output)
    answer, error = (None, str(text)) if failed else (text, None)
    if _tool_calls.tell(call_id, answer, name=result.tool_name, error=error):
        return
    handler = next(
        (
            each
            for each in spans.root_dispatcher().event_handlers
            if isinstance(each, TokenwireEventHandler)
        ),
        None,
    )
    if handler is None:
        return
    # An agent that calls tools in its text makes up ids of its own.
    sink = handler._sink if handler._sink is not None else tokenwire.default_sink()  # pyright: ignore[reportPrivateUsage]
    sink.tool_result(
        resolve_channel(handler._channel),  # pyright: ignore[reportPrivateUsage]
        call_id,
        answer,
        run=spans.TREE.root(span),
        name=result.tool_name,
        error=error,
    )
