"""One call of a model, as a framework's hooks see it from above the provider's SDK.

The framework's adapter opens a `Claim` for the call. Where the SDK below is recorded, its recorder
takes the claim and writes; else the adapter takes it at the first token and writes itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tokenwire
from tokenwire._problems import LogOnce
from tokenwire.claims import Claim, covering_claim, current_claim, set_claim
from tokenwire.context import current_run, resolve_channel
from tokenwire.events import plain
from tokenwire.instrument import OnCancel, call_soon
from tokenwire_adapters._agents.stainless.quirks import error_usage
from tokenwire_adapters._agents.stainless.recorder import error_message
from tokenwire_adapters._agents.values import arguments_of, name_of, to_json

__all__ = [
    "CANCELS",
    "MAX_CALLS",
    "UNKNOWN_REASON",
    "ModelCall",
    "Parts",
    "Reporter",
    "ToolCallOwner",
    "ToolCalls",
    "drop_oldest",
    "session_of",
]

UNKNOWN_REASON = "unknown"
"""The finish reason of a streamed reply for which a framework hands on none.

A framework tells no stream that was cut off from one whose provider gives no reason.
"""

MAX_CALLS = 10_000
"""How many calls, runs and tool calls an adapter holds whose end was never reported."""

CANCELS = (
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    SystemExit,
    tokenwire.ResponseCancelled,
)
"""What ends a call because somebody wanted it to end."""


def session_of(metadata: Mapping[str, Any]) -> str | None:
    """The session that a framework's metadata names: the channel, where nothing else names one."""
    for key in ("thread_id", "session_id", "conversation_id"):
        if metadata.get(key):
            return str(metadata[key])
    return None


def drop_oldest(table: dict[Any, Any]) -> Any:
    """Drop, and return, the oldest entry of a table that has more than `MAX_CALLS`; else None."""
    while len(table) > MAX_CALLS:
        try:
            return table.pop(next(iter(table)))
        except (KeyError, RuntimeError):  # a finalizer removed one at this very moment
            continue
    return None


class Reporter:
    """Logs errors of our own, each at most once a minute; they never reach the agent."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._log = LogOnce(max_texts=64)

    def report(self, error: Exception, sink: object = None) -> None:
        """Log `error`; raise it where `sink` is strict."""
        if getattr(sink, "strict", False) is True:
            raise error
        self._log.warning(f"{self._what}: {type(error).__name__}: {error}", error)


class Parts:
    """The parts of one response, by the indexes that a framework gives its blocks."""

    __slots__ = ("_blocks", "_calls", "_last", "writer")

    def __init__(self, writer: tokenwire.ResponseWriter) -> None:
        self.writer = writer
        self._blocks: dict[object, tokenwire.PartWriter] = {}
        self._calls: dict[object, tokenwire.PartWriter] = {}
        self._last: tokenwire.PartWriter | None = None

    def text(self, kind: str, text: str, block: object = None) -> None:
        """Append text; to a part of its own for each `block`, where there is one."""
        if block is None:
            self.writer.write(text, kind=kind)
            return
        part = self._blocks.get((kind, block))
        if part is not None:
            part.write(text)
        elif text:
            self._blocks[kind, block] = self.writer.part(kind, text=text)

    def tool(
        self,
        index: object,
        call_id: Any = None,
        name: Any = None,
        arguments: Any = None,
        *,
        provider_executed: bool = False,
    ) -> None:
        """Begin the tool call `index`, or append to its arguments.

        Without an index it is the call of that id, else the last one.

        :param call_id: ignored where it is no text; `name` likewise.
        :param arguments: text; anything else is written as JSON.
        """
        call_id, name = name_of(call_id), name_of(name)
        key = index if index is not None else call_id or None
        part = self._last if key is None else self._calls.get(key)
        if part is None or (call_id and part.call_id and call_id != part.call_id):
            part = self.writer.part(
                "tool_call",
                name=name or None,
                call_id=call_id or None,
                provider_executed=provider_executed,
            )
            self._calls[key] = part
        self._last = part
        if arguments:
            part.write(arguments_of(arguments))

    def has_tool(self, index: object) -> bool:
        """Whether the tool call `index` has begun."""
        return index in self._calls

    def add(self, kind: str, data: Any, *, name: str | None = None) -> None:
        """Add a part that does not grow, such as a source."""
        self.writer.part(kind, name=name, data=plain(data))


class ModelCall:
    """One call of a model.

    :param framework: a name of the adapter's, so that it knows its own claims.
    :param instrument: have the provider's SDK below record the call.
    :param above: the framework's call that makes this one, if there is one.
    :ivar claim: which of the layers that see the call writes it.
    :ivar writer: ours; None before the first token, and where a layer below writes.
    :ivar recorded_below: a layer below writes.
    """

    def __init__(
        self,
        sink: tokenwire.Sink,
        framework: str,
        *,
        channel: str | Callable[[], str | None] | None,
        session: str | None,
        response_id: str,
        run: str,
        metadata: dict[str, Any],
        on_cancel: OnCancel,
        instrument: bool = True,
        above: ModelCall | None = None,
    ) -> None:
        self.sink = sink
        self.writer: tokenwire.ResponseWriter | None = None
        self.parts: Parts | None = None
        self.recorded_below = False
        self.ended = False
        self.claim: Claim
        outer = covering_claim()
        if above is not None and not above.ended:
            outer = above.claim
        elif outer is not None and outer.framework == framework:
            outer = None  # of a call before this one, whose end was not reported (yet)
        if outer is not None and not outer.taken:
            # A framework above opened it for this very call (LlamaIndex over LangChain, say): we
            # are the lower layer, and write for both.
            self.claim = outer
            self.owns_claim = False
            outer.metadata = {**metadata, **outer.metadata}
        else:
            self.claim = Claim(
                framework=framework,
                instrument=instrument,
                channel=resolve_channel(channel, session=session, default=sink.default_channel),
                run=current_run() or run,
                response_id=response_id,
                metadata=metadata,
                sink=sink,
                on_cancel=on_cancel,
            )
            self.owns_claim = True
        self._outer = outer

    def cover(self) -> None:
        """Let the layers below find the claim."""
        if self.owns_claim:
            set_claim(self.claim)

    def open(self) -> Parts | None:
        """The response to write into, begun now if need be; None when it is not ours to write."""
        if self.parts is not None or self.recorded_below or self.ended:
            return self.parts
        claim = self.claim
        if not claim.take(self):
            self.recorded_below = True
            return None
        self._close()  # nothing below reads this stream: what comes next is another call
        self.parts = self._begin(claim.response_id)
        self.writer = claim.writer = self.parts.writer
        return self.parts

    def further_choice(self, index: int) -> Parts:
        """A further response to the same request (``n > 1``)."""
        return self._begin(f"{self.claim.response_id}-{index}")

    def _begin(self, response_id: str | None) -> Parts:
        claim = self.claim
        sink: tokenwire.Sink = claim.sink or self.sink
        return Parts(
            sink.respond(
                claim.channel, response_id=response_id, run=claim.run, metadata=claim.metadata
            )
        )

    def uncover(self) -> None:
        """Let what this context does from now on be another call; the claim stays open."""
        if self.owns_claim and current_claim() is self.claim:
            set_claim(self._outer)

    def withdraw(self) -> None:
        """Leave the call to another handler, or to a layer below."""
        self.ended = True
        self._close()

    @property
    def active_writer(self) -> tokenwire.ResponseWriter | None:
        """The writer of the call's response: ours, or that of the layer below."""
        return self.writer or self.claim.writer

    @property
    def cancelled(self) -> bool:
        """Whether a watcher cancelled the response."""
        writer = self.active_writer
        return not self.ended and writer is not None and writer.cancelled

    def finish(self, finish_reason: str | None = None, usage: Any = None) -> None:
        """The call is over, and well."""
        writer = self._end()
        if writer is not None and not writer.ended:
            writer.finish(name_of(finish_reason) or None, to_json(usage))

    def fail(self, error: BaseException) -> None:
        """The call is over because of `error`."""
        writer = self._end(begin=not isinstance(error, CANCELS))
        if writer is None or writer.ended:
            return
        if not isinstance(error, CANCELS):
            writer.fail(error_message(error) or error, usage=error_usage(error))
        elif isinstance(error, GeneratorExit):
            # A generator was dropped, perhaps by the garbage collector: locks may be held.
            call_soon(self.claim.sink or self.sink, writer.cancel)
        else:
            writer.cancel()

    def cancel(self, reason: str | None = None) -> None:
        """The call is over, and nothing more comes from the model."""
        writer = self._end()
        if writer is not None and not writer.ended:
            writer.cancel(reason)

    def _end(self, *, begin: bool = False) -> tokenwire.ResponseWriter | None:
        if self.ended:
            return None
        if begin and self.active_writer is None:
            self.open()  # a call that failed before its first token is published, too
        self.ended = True
        self._close()
        return self.active_writer

    def _close(self) -> None:
        """Close the claim, so that it covers no later call; put back the one before it."""
        self.uncover()
        if self.owns_claim:
            self.claim.close()


class ToolCallOwner(NamedTuple):
    """Which response asked for a tool call."""

    sink: tokenwire.Sink
    channel: str
    response_id: str
    run: str | None
    name: str | None


class ToolCalls:
    """Which response asked for which tool call: their results come later, from elsewhere."""

    def __init__(self) -> None:
        self._owners: dict[str, ToolCallOwner] = {}

    def add(self, call: ModelCall, call_id: str | None, name: str | None) -> None:
        """Enter a tool call of the response of `call`."""
        writer = call.active_writer
        if call_id and writer is not None:
            sink = call.claim.sink or call.sink
            owner = ToolCallOwner(sink, writer.channel, writer.id, writer.run, name)
            self._owners[call_id] = owner
            drop_oldest(self._owners)

    def publish_result(
        self, call_id: str, output: Any, *, name: str | None = None, error: str | None = None
    ) -> bool:
        """Publish what a tool returned, once; False where no open sink's response asked for it."""
        owner = self._owners.pop(call_id, None)
        if owner is None or owner.sink.closed:
            return False
        owner.sink.tool_result(
            owner.channel,
            call_id,
            output,
            response_id=owner.response_id,
            run=owner.run,
            name=name or owner.name,
            error=error,
        )
        return True
