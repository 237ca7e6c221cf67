"""`Recorder`: one request to a model, the responses it makes in a channel, and how they end."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias, cast

from tokenwire import ResponseWriter, Sink, background, current_run, default_sink
from tokenwire.context import Claim, resolve_channel
from tokenwire_adapters._agents.claims import covering_claim
from tokenwire_adapters._agents.deferred import after
from tokenwire_adapters._agents.hang_up import hang_up
from tokenwire_adapters._agents.last_chunk import TABLE

__all__ = ["Channel", "Metadata", "OnCancel", "Options", "Recorder", "dumped", "message_of"]

logger = logging.getLogger("tokenwire")

Channel: TypeAlias = str | Callable[[], str | None] | None
Metadata: TypeAlias = Mapping[str, Any] | None
OnCancel: TypeAlias = Literal["end", "raise"]

_SETTLE = 2.0  # seconds that a finished reply waits for its usage when nobody reads on


@dataclass(frozen=True, slots=True)
class Options:
    """What a wrap was told.

    :ivar sink: None for the default sink, opened when it is first needed.
    :ivar channel: a name, or a function that gives it.
    :ivar on_cancel: what the consumer's loop meets after a watcher's cancel: its ``"end"``, or
        `tokenwire.ResponseCancelled` (``"raise"``).
    """

    sink: Sink | None = None
    channel: Channel = None
    run: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    on_cancel: OnCancel = "end"

    def __post_init__(self) -> None:
        if self.on_cancel not in ("end", "raise"):
            raise ValueError(f"on_cancel must be 'end' or 'raise', not {self.on_cancel!r}")
        if not (self.channel is None or isinstance(self.channel, str) or callable(self.channel)):
            raise TypeError("channel must be a string or a function that returns one")


class Recorder:
    """Reads what one request brings, and writes it. Subclasses know one API each.

    Every step that an SDK call depends on goes through `guard`: what fails here is logged, and
    the call goes on unheard. A strict sink raises instead.

    :ivar raises: what its consumer meets after that is `tokenwire.ResponseCancelled`.
    :ivar stopped: a watcher cancelled all that this request makes.
    :ivar ended: every response of it has ended.
    :ivar lost: something of ours failed; nothing more is written.
    :ivar driven: a generator reads its stream.
    :ivar last: the chunk that was read last, while the stream is open.
    :ivar loop: the asyncio loop that reads it.
    :ivar reader: the generator that reads it, weakly.
    """

    provider: ClassVar[str] = ""
    api: ClassVar[str] = ""

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        self.options = options
        self.request: Mapping[str, Any] = request or {}
        self.stopped = False
        self.ended = False
        self.driven = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.reader: weakref.ref[Any] | None = None
        self.writers: dict[int, ResponseWriter] = {}
        self._claim: Claim | None = None
        self._sink: Sink | None = None
        self._channel = ""
        self._base = ""
        self._run: str | None = None
        self._metadata: dict[str, Any] = {}
        self._response: weakref.ref[Any] | None = None
        self.last: Any = None
        self._noted: object = None
        self.lost = False
        self.raises = options.on_cancel == "raise"
        self._claim = covering_claim()
        self._current_run = current_run()

    # -- what a subclass does

    def feed(self, item: Any) -> None:
        """Read one chunk of the stream."""
        raise NotImplementedError

    def take(self, result: Any) -> None:
        """Read a whole reply."""
        raise NotImplementedError

    def finished(self) -> None:
        """End what the stream, read to its end, leaves open."""
        raise NotImplementedError

    def usage(self) -> dict[str, Any] | None:
        """Token counts, as far as the provider has told them."""
        return None

    def reason(self, index: int) -> str | None:  # noqa: ARG002
        """Why the model stopped choice number `index`, as far as the provider has told."""
        return None

    # -- beginning

    def begin(self) -> None:
        """Begin the first response; idempotent."""
        if not self.writers and not self.lost:
            self.guard(self.writer, 0)

    def writer(self, index: int) -> ResponseWriter:
        """The writer of choice number `index`, begun if need be."""
        found = self.writers.get(index)
        if found is not None:
            return found
        if self._sink is None:
            self._settle_names()
        assert self._sink is not None
        made = self._sink.respond(
            self._channel,
            response_id=self._base if not self.writers else f"{self._base}-{index}",
            run=self._run,
            metadata=self._metadata,
        )
        if not self.writers:
            self._run = made.run
            claim = self._claim
            if claim is not None and claim.owner is self:
                claim.writer = made
        self.writers[index] = made
        made.on_cancel(self._heard_cancel)
        return made

    def _settle_names(self) -> None:
        """Decide where the responses go: by what the wrap named, else the claim, the context."""
        options, claim = self.options, self._claim
        owned = claim is not None and not claim.closed and claim.take(self)
        run, base, metadata = options.run, None, dict[str, Any]()
        if claim is not None:
            run = run or claim.run or (claim.writer.run if claim.writer is not None else None)
            base = claim.response_id if owned else None
            metadata = claim.metadata if owned else {}
        self.raises = self.raises or (owned and claim is not None and claim.raise_on_cancel)
        sink = options.sink or (claim.sink if claim is not None else None) or default_sink()
        self._channel = resolve_channel(self._named_channel)
        self._run = run or self._current_run
        self._base = base or f"r-{secrets.token_hex(8)}"
        told = {"provider": self.provider, "api": self.api, "model": self.request.get("model")}
        self._metadata = {
            **{key: value for key, value in told.items() if value is not None},
            **metadata,
            **options.metadata,
        }
        self._sink = sink

    def _named_channel(self) -> str | None:
        named = self.options.channel
        if callable(named):
            try:
                named = named()
            except Exception:
                logger.warning("tokenwire: the channel function failed", exc_info=True)
                named = None
        return named or (self._claim.channel if self._claim is not None else None)

    def bind(self, response: Any) -> None:
        """Learn which HTTP response carries the stream."""
        self._response = weakref.ref(response)
        weakref.finalize(response, self.dropped).atexit = False
        if self.stopped:
            self._hang_up()

    # -- while it streams

    def guard(self, step: Callable[..., Any], *args: Any) -> None:
        """Run `step`; what it raises stays here, and ends the listening."""
        if self.lost:
            return
        try:
            step(*args)
        except Exception as error:
            self.broken(error)

    def broken(self, error: Exception) -> None:
        """Stop listening: something of ours failed. A strict sink raises it."""
        self.lost = True
        if getattr(self._sink or self.options.sink, "strict", False):
            raise error
        logger.warning("tokenwire: lost track of a stream of %s", self.provider, exc_info=error)
        for writer in self.writers.values():
            try:
                writer.fail("tokenwire lost track of this response")
            except Exception:
                logger.debug("tokenwire: ending a response failed", exc_info=True)
        self.ended = True

    def note(self, item: object) -> None:
        """Remember the chunk that was read last, for `seen`."""
        TABLE.note(item, self._noted, self)
        self._noted = item

    def settle_soon(self, last: object) -> None:
        """End a finished reply soon, should its consumer not read on after its `last` chunk."""
        if self._sink is not None:
            after(self._sink, _SETTLE, functools.partial(_settle, weakref.ref(self), last, True))

    def left(self) -> None:
        """End the reply soon, unless its consumer, who left the loop, reads on."""
        if self._sink is not None and not self.ended:
            step = functools.partial(_settle, weakref.ref(self), self.last, False)
            after(self._sink, _SETTLE, step)

    # -- ending

    def exhausted(self) -> None:
        """The consumer has read the stream to its end."""
        if not self.ended:
            self.guard(self.finished)
            self._over()

    def whole(self, result: Any) -> None:
        """The reply came in one piece."""
        if self.ended:
            return
        self.begin()
        self.guard(self.take, result)
        self.guard(self.finished)
        self._over()

    def closed(self) -> None:
        """The consumer has stopped reading: by `close`, `break`, a task's cancel."""
        if not self.ended and self.writers:
            self.guard(self._end_early)
            self._over()

    def dropped(self) -> None:
        """Do what `closed` does, from a finalizer: on the I/O thread, since locks may be held."""
        if not self.ended and self._sink is not None:
            background.call_soon(self._sink, self.closed)

    def failed(self, error: BaseException) -> None:
        """The provider, or the connection to it, failed."""
        if self.ended:
            return
        self.begin()
        self.guard(self._end_failed, error)
        self._over()

    def _end_early(self) -> None:
        for index, writer in self.writers.items():
            reason = self.reason(index)
            if reason is not None:
                writer.finish(reason, self.usage())
            else:
                writer.cancel("its consumer stopped reading", usage=self.usage())

    def _end_failed(self, error: BaseException) -> None:
        told = message_of(error)
        usage = self.usage() or usage_in(error)
        for index, writer in self.writers.items():
            writer.fail(told or error, finish_reason=self.reason(index), usage=usage)

    def _over(self) -> None:
        self.ended = True

    def forget(self) -> None:
        """Let go of the stream's chunks: its generator is done."""
        self.last = None
        if self._noted is not None:
            self.note(None)

    # -- being cancelled

    def _heard_cancel(self) -> None:
        """A watcher cancelled a response (I/O thread)."""
        if all(writer.ended for writer in self.writers.values()):
            self.stopped = True
            self._hang_up()

    def _hang_up(self) -> None:
        response = self._response() if self._response is not None else None
        if response is not None:
            hang_up(response, self.loop)

    @property
    def cancelled_id(self) -> tuple[str, str | None]:
        """The id of the cancelled response, and the reason that was given."""
        for writer in self.writers.values():
            return writer.id, writer.cancel_reason
        return "", None


def _settle(ref: weakref.ref[Recorder], last: Any, again: bool) -> None:
    """Close a tap whose last chunk is still `last`, and whose consumer does not wait for another.

    With `again`, look later if it is not so.
    """
    tap = ref()
    if tap is None or tap.ended:
        return
    reader: Any = tap.reader() if tap.reader is not None else None
    waits = getattr(reader, "gi_running", False) or getattr(reader, "ag_running", False)
    if not waits and (tap.last is last or tap.last is None):
        tap.closed()
    elif again:
        tap.settle_soon(tap.last)


def dumped(value: Any) -> Any:
    """What an SDK's object was made of: only what the provider sent, nothing that a class added."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    return value


def message_of(error: BaseException) -> str | None:
    """The provider's own words in an SDK's error, where there are any."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, Mapping):
        body = cast("Mapping[str, Any]", body)
        inner = body.get("error", body)
        told = (
            cast("Mapping[str, Any]", inner).get("message") if isinstance(inner, Mapping) else inner
        )
        if isinstance(told, str) and told:
            return told
    return None


def usage_in(error: BaseException) -> dict[str, Any] | None:
    """Token counts in the event that carried a provider's error.

    The SDK raises before it hands that event over, so it is found in the frame that raised.
    """
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "__stream__":
            data = frame.f_locals.get("data")
            if isinstance(data, Mapping):
                usage = cast("Mapping[str, Any]", data).get("usage")
                return cast("dict[str, Any]", usage) if isinstance(usage, dict) else None
        trace = trace.tb_next
    return None
