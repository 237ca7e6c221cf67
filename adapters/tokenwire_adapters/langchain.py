"""Stream what LangChain 1.x and LangGraph agents produce.

>>> from tokenwire_adapters.langchain import TokenwireCallbackHandler
>>> handler = TokenwireCallbackHandler(channel="chat-42")

and then ``agent.stream(..., config={"callbacks": [handler]})``; see docs/langchain.md.
"""

# LangChain passes by keyword much that we have no use for.
# ruff: noqa: ARG002

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import tokenwire
from tokenwire._options import choose_on_cancel
from tokenwire.claims import Claim, set_claim
from tokenwire.context import resolve_channel
from tokenwire.instrument import Instrumentor, OnCancel, Options, call_soon, record_claimed_calls
from tokenwire_adapters._agents.calls import CANCELS, ModelCall, Reporter, ToolCalls
from tokenwire_adapters._agents.langchain import content
from tokenwire_adapters._agents.langchain.runs import Call, Node, Runs

try:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.tracers import context
except ImportError as error:  # pragma: no cover - tried without the extra by tests/wheel
    raise tokenwire.MissingExtra(
        'TokenwireCallbackHandler needs langchain-core: pip install "tokenwire[langchain]"'
    ) from error

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["TokenwireCallbackHandler", "instrumentor"]

Metadata: TypeAlias = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]

_SILENT = frozenset({"nostream", "langsmith:nostream"})
"""Tags of calls that are not for users to see (LangGraph's `TAG_NOSTREAM`)."""

_TOLD = ("langgraph_node", "langgraph_step", "langgraph_checkpoint_ns", "lc_agent_name")
"""Metadata that watchers are told as it is; of the rest they see nothing."""

_runs = Runs()
_tool_calls = ToolCalls()
_reporter = Reporter("the LangChain handler")


class TokenwireCallbackHandler(BaseCallbackHandler):
    """Writes the tokens, tool calls and tool results of LangChain and LangGraph into channels.

    One handler serves any number of calls at the same time, sync and async. It never changes or
    breaks a call, but for a cancel: see `on_cancel`. Where two handlers see the same call,
    the first one has it.

    :param sink: where to write; by default `tokenwire.default_sink`, opened at the first call.
    :param channel: its name, or a function that gives it; by default the context's channel, else
        the ``thread_id`` (or ``session_id``) of the call's config.
    :param metadata: told to watchers with each response: a mapping, or a function from the call's
        LangChain metadata to one.
    :param on_cancel: once a watcher has cancelled a response: ``"raise"`` (the default):
        `ResponseCancelled` leaves the model's call, which closes the provider's stream and ends
        the agent; ``"end"``: the agent goes on, and nothing more is published of the response.
    :param stop_provider: patch the streams of the SDKs of OpenAI and Anthropic, for the calls of
        LangChain alone. They tell what LangChain drops, and a watcher's cancel closes the
        provider's response at once. Not with ``on_cancel="end"``.
    :param raise_on_cancel: the older spelling: False is ``on_cancel="end"``.
    :raises ValueError: for another `on_cancel`.
    """

    raise_error = True
    """`ResponseCancelled` must get through. Nothing else is raised (but in strict mode)."""

    def __init__(
        self,
        sink: tokenwire.Sink | None = None,
        *,
        channel: str | Callable[[], str | None] | None = None,
        metadata: Metadata | None = None,
        on_cancel: OnCancel | None = None,
        stop_provider: bool = True,
        raise_on_cancel: bool | None = None,
    ) -> None:
        super().__init__()
        self._sink = sink
        self._channel = channel
        self._metadata = metadata
        self._on_cancel: OnCancel = choose_on_cancel(on_cancel, raise_on_cancel, "raise")
        self._stop_provider = stop_provider and self._on_cancel == "raise"
        self._automatic = False

    def __copy__(self) -> TokenwireCallbackHandler:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenwireCallbackHandler:
        return self  # configs are copied; a sink cannot be

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        """Called on the thread and in the context of the model's call, also under async code.

        But for the start of an async completion model (not a chat model): there, LangChain leaves
        out the start of every other handler as soon as one is inline (langchain-core 1.7, 1.8).
        """
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        if frame.f_code.co_name == "<listcomp>" and frame.f_back is not None:
            frame = frame.f_back
        return frame.f_code.co_name != "on_llm_start"

    @property
    def ignore_retriever(self) -> bool:
        return True

    @property
    def ignore_retry(self) -> bool:
        return True

    @property
    def ignore_custom_event(self) -> bool:
        return True

    # -- chains and graphs: which run belongs to which

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        self._quietly(_runs.enter, run_id, parent_run_id)

    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self._quietly(_runs.leave, run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._quietly(self._sweep, run_id, error)

    def _sweep(self, run_id: UUID, error: BaseException) -> None:
        """End the calls that a cancelled `ainvoke` leaves behind: nothing else tells of them."""
        node = _runs.leave(run_id)
        if node is None:
            return
        for call in _runs.under(node):
            if call.model is not None:
                reason = None if isinstance(error, CANCELS) else f"the run failed: {error}"
                call.model.cancel(reason)

    # -- models

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._start_model(run_id, parent_run_id, tags, metadata, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._start_model(run_id, parent_run_id, tags, metadata, kwargs, batch=len(prompts))

    def _start_model(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: list[str] | None,
        metadata: dict[str, Any] | None,
        extra: dict[str, Any],
        *,
        batch: int = 1,
    ) -> None:
        node = self._quietly(_runs.enter, run_id, parent_run_id)
        if node is None:
            return
        if node.root.cancelled is not None and self._on_cancel == "raise":
            _runs.remove(run_id.int)
            raise node.root.cancelled  # a retry, a fallback or the next step of what was stopped
        batch = max(batch, extra.get("batch_size") or 1)
        self._quietly(self._begin, run_id, node, tags or (), metadata or {}, batch)

    def _begin(
        self, run_id: UUID, node: Node, tags: Any, metadata: dict[str, Any], batch: int
    ) -> None:
        key = run_id.int
        other = _runs.calls.get(key)
        if other is not None:
            if self._automatic or not getattr(other.owner, "_automatic", False):
                return  # another handler has it
            _runs.remove(key)
            if other.model is not None:
                other.model.withdraw()
        if self._stop_provider and not self._automatic:
            record_claimed_calls()
        call = Call(self, node, None)
        if _SILENT.isdisjoint(tags):
            call.model = ModelCall(
                self._sink if self._sink is not None else tokenwire.default_sink(),
                "langchain",
                channel=self._channel,
                session=_session(metadata),
                response_id=str(run_id),
                run=node.root.id,
                metadata=self._describe(metadata),
                on_cancel=self._on_cancel,
                instrument=self._stop_provider,
            )
            call.model.cover()
        if call.model is None or batch > 1:
            # Not to be shown at all; or one context for several calls, which a layer below could
            # not tell apart.
            if call.model is not None:
                call.model.open()
            call.suppressed = Claim()
            call.suppressed.suppress(self)
            set_claim(call.suppressed)
        dropped = _runs.add(key, call)
        if dropped is not None and dropped.model is not None:
            dropped.model.cancel("too many calls are open")
        # A call that is cancelled may tell nobody. What holds its id tells by letting go of it.
        weakref.finalize(run_id, _gone, key).atexit = False

    def _describe(self, metadata: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"framework": "langchain"}
        for name, key in (("provider", "ls_provider"), ("model", "ls_model_name")):
            if metadata.get(key):
                told[name] = metadata[key]
        told.update((key, metadata[key]) for key in _TOLD if key in metadata)
        own = self._metadata(metadata) if callable(self._metadata) else self._metadata
        return {**told, **own} if own else told

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: Any = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        call = _runs.calls.get(run_id.int)
        if call is None or call.owner is not self or call.model is None:
            return
        try:
            parts = call.model.parts or call.model.open()
            if parts is not None and call.source != "events":
                message = None if chunk is None else getattr(chunk, "message", None)
                if message is not None:
                    if content.write_chunk(parts, message):
                        call.source = "tokens"
                elif token and isinstance(token, str):
                    call.source = "tokens"
                    parts.text("text", token)
            stopped = call.model.stopped
        except Exception as error:
            _reporter.report(error, self._sink)
            return
        if stopped:
            self._stop(call)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        call = _runs.calls.get(run_id.int)
        if call is None or call.owner is not self or call.model is None:
            return
        try:
            # Most models tell of the same tokens through `on_llm_new_token`, and do so first.
            if call.source != "tokens":
                parts = call.model.parts or call.model.open()
                if parts is not None and content.write_event(parts, event):
                    call.source = "events"
            stopped = call.model.stopped
        except Exception as error:
            _reporter.report(error, self._sink)
            return
        if stopped:
            self._stop(call)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        call = self._quietly(self._end, run_id, response)
        if call is not None:
            self._stop(call)

    def _end(self, run_id: UUID, response: Any) -> Call | None:
        """End a call well; return it if a watcher had cancelled it."""
        call = self._take(run_id)
        if call is None:
            return None
        model = call.model
        if model is None:
            return None
        generations: Any = response.generations[0] if response.generations else []
        generation: Any = generations[0] if generations else None
        message: Any = getattr(generation, "message", None)
        if not call.source:  # nothing was streamed
            parts = model.open()
            if parts is not None and message is not None:
                content.write_message(parts, message)
            elif parts is not None and getattr(generation, "text", None):
                parts.text("text", generation.text)
            for index, other in enumerate(generations[1:] if parts is not None else (), 1):
                _write_choice(model, index, other)
        for call_id, name, _ in content.tool_calls(message) if message is not None else ():
            _tool_calls.learn(model, call_id, name)
        stopped = model.stopped
        model.finish(
            content.finish_reason(message, generation),
            content.usage(message, response.llm_output),
        )
        return call if stopped else None

    def _take(self, run_id: UUID) -> Call | None:
        """Let go of a call that is over; None where it is not ours."""
        call = _runs.calls.get(run_id.int)
        if call is None:
            _runs.leave(run_id)
            return None
        if call.owner is not self:
            return None
        _runs.remove(run_id.int)
        if call.suppressed is not None:
            call.suppressed.close()
        return call

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._quietly(self._fail, run_id, error)

    def _fail(self, run_id: UUID, error: BaseException) -> None:
        call = self._take(run_id)
        if call is None or call.model is None:
            return
        if isinstance(error, tokenwire.ResponseCancelled) and call.model.stopped:
            call.node.root.cancelled = error
        call.model.fail(error)

    def _stop(self, call: Call) -> None:
        """A watcher cancelled: leave the model's stream, which closes it.

        :raises ResponseCancelled: where the handler was asked to.
        """
        where = call.model.where if call.model is not None else None
        if where is None or self._on_cancel == "end":
            return
        stopped = tokenwire.ResponseCancelled(where.id, where.cancel_reason)
        call.node.root.cancelled = stopped
        raise stopped

    # -- tools

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        self._quietly(_runs.enter, run_id, parent_run_id)
        call_id = kwargs.get("tool_call_id")
        if isinstance(call_id, str) and call_id:
            self._quietly(_runs.start_tool, run_id, self, call_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._quietly(self._tool_end, output, run_id, kwargs)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._quietly(self._tool_error, error, run_id, kwargs)

    def _tool_end(self, output: Any, run_id: UUID, extra: dict[str, Any]) -> None:
        node = _runs.leave(run_id)
        call_id = _runs.end_tool(run_id, self)
        if call_id is None:
            return
        message = _tool_message(output, call_id)
        answer = getattr(message, "content", output) if message is not None else output
        failed = getattr(message, "status", None) == "error"
        self._tell(
            call_id,
            None if failed else answer,
            node,
            name=extra.get("name") or getattr(message, "name", None),
            error=str(answer) if failed else None,
        )

    def _tool_error(self, error: BaseException, run_id: UUID, extra: dict[str, Any]) -> None:
        node = _runs.leave(run_id)
        call_id = _runs.end_tool(run_id, self)
        if call_id is None or any(cls.__name__ == "GraphBubbleUp" for cls in type(error).__mro__):
            return  # LangGraph's interrupts are no errors: the tool runs again when resumed
        text = str(error) or type(error).__name__
        self._tell(call_id, None, node, name=extra.get("name"), error=text)

    def _tell(
        self, call_id: str, output: Any, node: Node | None, *, name: str | None, error: str | None
    ) -> None:
        if _tool_calls.tell(call_id, output, name=name, error=error):
            return
        # The call was made in another process, or long ago: what it belongs to is not known here.
        sink = self._sink if self._sink is not None else tokenwire.default_sink()
        channel = resolve_channel(self._channel)
        run = node.root.id if node is not None else None
        sink.tool_result(channel, call_id, output, run=run, name=name, error=error)

    # -- keeping out of the way

    def _quietly(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call `function`; what it raises is ours, and stays here."""
        try:
            return function(*args)
        except Exception as error:
            _reporter.report(error, self._sink)
            return None


def _write_choice(model: ModelCall, index: int, generation: Any) -> None:
    """Write a further reply to the same request (``n > 1``), as a response of its own."""
    parts = model.another(index)
    message: Any = getattr(generation, "message", None)
    if message is not None:
        content.write_message(parts, message)
    elif getattr(generation, "text", None):
        parts.text("text", generation.text)
    parts.writer.finish(content.finish_reason(message, generation))


class _LangChainInstrumentor(Instrumentor):
    """Has LangChain call one handler for every call. One that a call names itself comes first."""

    module = "langchain_core"

    def __init__(self) -> None:
        self._variable: ContextVar[TokenwireCallbackHandler | None] | None = None

    def start(self, options: Options) -> None:
        self.stop()
        handler = TokenwireCallbackHandler(
            options.sink, channel=options.channel, on_cancel=options.on_cancel
        )
        handler._automatic = True  # pyright: ignore[reportPrivateUsage]
        # A default is seen by threads that were started with an empty context, too.
        self._variable = ContextVar("tokenwire_langchain", default=handler)
        context.register_configure_hook(self._variable, inheritable=True)

    def stop(self) -> None:
        hooks: list[Any] = context._configure_hooks  # pyright: ignore[reportPrivateUsage]
        hooks[:] = [hook for hook in hooks if hook[0] is not self._variable]


instrumentor = _LangChainInstrumentor()
"""Publishes every call of LangChain; see `tokenwire.instrument`."""


def _gone(key: int) -> None:
    """Nothing holds the id of a run any more, so nothing will be told of it.

    A finalizer: it may run in the middle of anything, and must wait for no lock.
    """
    call = _runs.remove(key)
    if call is None:
        return
    if call.suppressed is not None:
        call.suppressed.close()
    model = call.model
    if model is not None and model.writer is not None:
        try:
            call_soon(model.sink, model.cancel)
        except Exception as error:
            _reporter.report(error)
    elif model is not None:
        # A layer below that writes knows of its own end. Its call need not even be this one: what
        # ran in this context since may have found the claim.
        model.withdraw()


def _session(metadata: dict[str, Any]) -> str | None:
    for key in ("thread_id", "session_id", "conversation_id"):
        if metadata.get(key):
            return str(metadata[key])
    return None


def _tool_message(output: Any, call_id: str) -> Any:
    """The `ToolMessage` that answers `call_id` in what a tool returned, if there is one."""
    if getattr(output, "tool_call_id", None) == call_id:
        return output
    update: Any = getattr(output, "update", None)  # LangGraph's `Command`
    messages: Any = output
    if isinstance(update, dict):
        messages = cast("dict[str, Any]", update).get("messages")
    for item in cast("list[Any]", messages) if isinstance(messages, list | tuple) else ():
        if getattr(item, "tool_call_id", None) == call_id:
            return item
        nested = _tool_message(item, call_id) if hasattr(item, "update") else None
        if nested is not None:
            return nested
    return None
