"""The models' calls that are open, by span, and by the generator that each has returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenwire.claims import Claim, current_claim, set_claim
from tokenwire_adapters._agents.calls import ModelCall, drop_oldest
from tokenwire_adapters._agents.llama_index.content import Reader
from tokenwire_adapters._agents.llama_index.spans import SPANS
from tokenwire_adapters._agents.llama_index.streams import Streams

__all__ = ["Call", "OpenCalls"]


class Call:
    """A call of a model that is going on.

    :ivar owner: the handler that publishes it.
    :ivar model: None where the call is not published.
    :ivar depth: how many layers of LlamaIndex emit events for it under one span.
    :ivar last: the response that was read last.
    :ivar stream: the key of the generator that the call has returned.
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

    def cover(self) -> None:
        """Let the layers below find the call's claim; one that is not published suppresses them."""
        if self.model is not None:
            self.model.cover()
            return
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


class OpenCalls:
    """The open calls. Takes no locks: the garbage collector ends calls, too, wherever it runs."""

    def __init__(self) -> None:
        self.by_span: dict[str, Call] = {}
        self.streams: Streams[Call] = Streams()

    def add(self, span: str, call: Call) -> None:
        """Enter a call; the oldest is cancelled where too many never ended."""
        self.by_span[span] = call
        dropped: Call | None = drop_oldest(self.by_span)
        if dropped is not None:
            self._release(dropped)
            if dropped.model is not None:
                dropped.model.cancel("too many calls are open")

    def remove(self, span: str, call: Call) -> ModelCall | None:
        """Remove a call, and return what is to be ended."""
        if self.by_span.get(span) is call:
            self.by_span.pop(span, None)
        self._release(call)
        return call.model

    def fail(self, span: str, call: Call, error: BaseException | None) -> None:
        """Remove a call that broke off."""
        model = self.remove(span, call)
        if model is not None:
            if error is None:
                model.cancel()
            else:
                model.fail(error)

    def follow(self, call: Call, result: Any, on_drop: Callable[[], None]) -> None:
        """Know a call by the generator that it returned from now on, no longer by its context.

        :param on_drop: called when nothing holds the generator any more.
        """
        call.stream = self.streams.add(result, call, on_drop)
        if call.stream is not None:
            call.uncover()

    def above(self, span: str) -> Call | None:
        """The call that makes this one: that of a span around it, or whose stream is being read."""
        for outer in SPANS.around(span):
            call = self.by_span.get(outer)
            if call is not None:
                return call
        return self.streams.running()

    def find_claim(self) -> Claim | None:
        """The claim of the call whose generator is on the stack."""
        call = self.streams.running()
        if call is None:
            return None
        return call.model.claim if call.model is not None else call.suppressed

    def _release(self, call: Call) -> None:
        self.streams.remove(call.stream, call)
        if call.suppressed is not None:
            call.uncover()
            call.suppressed.close()
