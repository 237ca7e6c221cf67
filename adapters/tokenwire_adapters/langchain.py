"""Stream what LangChain 1.x and LangGraph agents produce.

>>> from tokenwire_adapters.langchain import TokenwireCallbackHandler
>>> handler = TokenwireCallbackHandler(channel="chat-42")

and then ``agent.stream(..., config={"callbacks": [handler]})``; see docs/langchain.md.
"""

# LangChain passes by keyword much that we have no use for.
# ruff: noqa: ARG002

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import tokenwire
from tokenwire._options import choose_on_cancel
from tokenwire.context import resolve_channel
from tokenwire.instrument import Instrumentor, OnCancel, Options, record_claimed_calls
from tokenwire_adapters._agents.calls import CANCELS, ModelCall, Reporter, ToolCalls, session_of
from tokenwire_adapters._agents.langchain import content
from tokenwire_adapters._agents.langchain.runs import Call, Node, Runs

try:
    from langchain_core.callbacks import BaseCallbackHandler

    from tokenwire_adapters._agents.langchain import quirks
    from tokenwire_adapters._agents.langchain.tools import ToolRuns
except ImportError as error:  # pragma: no cover - tried without the extra by tests/wheel
    raise tokenwire.MissingExtra(
        'TokenwireCallbackHandler needs langchain-core: pip install "tokenwire[langchain]"'
    ) from error

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["TokenwireCallbackHandler", "instrumentor"]

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")

_reporter = Reporter("the LangChain handler")
_runs = Runs(_reporter)
_tool_runs = ToolRuns()
_tool_calls = ToolCalls()


class TokenwireCallbackHandler(BaseCallbackHandler):
    """Writes the tokens, tool calls and tool results of LangChain and LangGraph into channels.

    One handler serves any number of calls at the same time, sync and async. It never changes or
    breaks a call, but for a cancel: see `on_cancel`. Where two handlers see the same call,
    the first one publishes it.

    :param sink: where to write; by default `tokenwire.default_sink`, opened at the first call.
    :param channel: its name, or a function that returns it; by default the context's channel, else
        the ``thread_id`` (or ``session_id``) of the call's config.
    :param metadata: published with each response: a mapping, or a function from the call's
        LangChain metadata to one.
    :param on_cancel: once a watcher has cancelled a response: ``"raise"`` (the default):
        `ResponseCancelled` leaves the model's call, which closes the provider's stream and ends
        the agent; ``"end"``: the agent goes on, and nothing more is published of the response.
    :param stop_provider: record the calls of LangChain in the provider's SDK below, where there is
        an instrumentor for it. The SDK has what LangChain drops, and a watcher's cancel closes the
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
        metadata: content.Metadata | None = None,
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

        But for the start of an async completion model, where that would hide it from others.
        """
        return not quirks.is_llm_start()

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
        self._guard(_runs.enter, run_id, parent_run_id)

    def on_chain_end(self, outputs: dict[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        self._guard(_runs.leave, run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._guard(self._cancel_within, run_id, error)

    def _cancel_within(self, run_id: UUID, error: BaseException) -> None:
        """End the calls that a cancelled `ainvoke` leaves behind: no other callback does."""
        node = _runs.leave(run_id)
        if node is None:
            return
        for call in _runs.calls_within(node):
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
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._start_model(run_id, parent_run_id, tags, metadata, batch_size or 1)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        batch = max(len(prompts), batch_size or 1)
        self._start_model(run_id, parent_run_id, tags, metadata, batch)

    def _start_model(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: list[str] | None,
        metadata: dict[str, Any] | None,
        batch: int,
    ) -> None:
        node = self._guard(_runs.enter, run_id, parent_run_id)
        if node is None:
            return
        if node.root.cancelled is not None and self._on_cancel == "raise":
            _runs.remove(run_id.int)
            raise node.root.cancelled  # a retry, a fallback or the next step of what was cancelled
        try:
            self._guard(self._begin, run_id, node, tags or [], metadata or {}, batch)
        except BaseException:  # a strict sink's: LangChain does not go on with this run
            _runs.remove(run_id.int)
            raise

    def _begin(
        self, run_id: UUID, node: Node, tags: list[str], metadata: dict[str, Any], batch: int
    ) -> None:
        key = run_id.int
        other = _runs.calls.get(key)
        if other is not None:
            if self._automatic or not getattr(other.owner, "_automatic", False):
                return  # another handler publishes it
            _runs.remove(key)
            if other.model is not None:
                other.model.withdraw()
        if self._stop_provider and not self._automatic:
            record_claimed_calls()
        call = Call(self, node)
        if content.HIDDEN.isdisjoint(tags):
            call.model = ModelCall(
                self._sink if self._sink is not None else tokenwire.default_sink(),
                "langchain",
                channel=self._channel,
                session=session_of(metadata),
                response_id=str(run_id),
                run=node.root.id,
                metadata=content.metadata(metadata, self._metadata),
                on_cancel=self._on_cancel,
                instrument=self._stop_provider,
            )
            call.model.cover()
        if call.model is None or batch > 1:
            # Not to be published at all; or one context for several calls, which a layer below
            # could not tell apart.
            call.suppress()
        _runs.add(run_id, call)

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
            call.write_token(call.model, token, chunk)
            cancelled = call.model.cancelled
        except Exception as error:
            _reporter.report(error, self._sink)
            return
        if cancelled:
            self._raise_cancelled(call)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:
        call = _runs.calls.get(run_id.int)
        if call is None or call.owner is not self or call.model is None:
            return
        try:
            call.write_event(call.model, event)
            cancelled = call.model.cancelled
        except Exception as error:
            _reporter.report(error, self._sink)
            return
        if cancelled:
            self._raise_cancelled(call)

    def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        call = self._guard(self._end, run_id, response)
        if call is not None:
            self._raise_cancelled(call)

    def _end(self, run_id: UUID, response: Any) -> Call | None:
        """End a call well; return it if a watcher had cancelled it."""
        call = self._remove(run_id)
        if call is None or call.model is None:
            return None
        return call if call.finish(call.model, response, _tool_calls) else None

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._guard(self._fail, run_id, error)

    def _fail(self, run_id: UUID, error: BaseException) -> None:
        call = self._remove(run_id)
        if call is None or call.model is None:
            return
        if isinstance(error, tokenwire.ResponseCancelled) and call.model.cancelled:
            call.node.root.cancelled = error
        call.model.fail(error)

    def _remove(self, run_id: UUID) -> Call | None:
        """Remove a call that is over; None where it is not ours."""
        call = _runs.calls.get(run_id.int)
        if call is None:
            _runs.leave(run_id)
            return None
        if call.owner is not self:
            return None
        _runs.remove(run_id.int)
        call.unsuppress()
        return call

    def _raise_cancelled(self, call: Call) -> None:
        """Leave the model's stream, which closes it, after a watcher's cancel.

        :raises ResponseCancelled: with ``on_cancel="raise"``.
        """
        writer = call.model.active_writer if call.model is not None else None
        if writer is None or self._on_cancel == "end":
            return
        cancelled = tokenwire.ResponseCancelled(writer.id, writer.cancel_reason)
        call.node.root.cancelled = cancelled
        raise cancelled

    # -- tools

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._guard(_runs.enter, run_id, parent_run_id)
        if isinstance(tool_call_id, str) and tool_call_id:
            self._guard(_tool_runs.start, run_id, self, tool_call_id)

    def on_tool_end(
        self, output: Any, *, run_id: UUID, name: str | None = None, **kwargs: Any
    ) -> None:
        self._guard(self._end_tool, run_id, name, output, None)

    def on_tool_error(
        self, error: BaseException, *, run_id: UUID, name: str | None = None, **kwargs: Any
    ) -> None:
        self._guard(self._end_tool, run_id, name, None, error)

    def _end_tool(
        self, run_id: UUID, name: str | None, output: Any, error: BaseException | None
    ) -> None:
        node = _runs.leave(run_id)
        outcome = _tool_runs.end(run_id, self, output, error)
        if outcome is None:
            return
        result: dict[str, Any] = {"name": name or outcome.name, "error": outcome.error}
        if not _tool_calls.publish_result(outcome.call_id, outcome.output, **result):
            # The call was made in another process, or long ago: its response is not known here.
            sink = self._sink if self._sink is not None else tokenwire.default_sink()
            run = node.root.id if node is not None else None
            channel = resolve_channel(self._channel, default=sink.default_channel)
            sink.tool_result(channel, outcome.call_id, outcome.output, run=run, **result)

    def _guard(
        self, step: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> _Result | None:
        """Call `step`; what it raises is reported, and never reaches LangChain."""
        try:
            return step(*args, **kwargs)
        except Exception as error:
            _reporter.report(error, self._sink)
            return None


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
        quirks.add_default_handler(self._variable)

    def stop(self) -> None:
        quirks.remove_default_handler(self._variable)


instrumentor = _LangChainInstrumentor()
"""Publishes every call of LangChain; see `tokenwire.instrument`."""
