"""The tree of LlamaIndex's spans, and callbacks for those that end.

LlamaIndex's events name their own span only. A span handler gets ids and parents, the results of
tools, and the calls that end without an event.
"""

# LlamaIndex passes to span handlers much that we have no use for.
# ruff: noqa: ARG002

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core import instrumentation
from llama_index.core.instrumentation.span import BaseSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler

from tokenwire_adapters._agents.calls import MAX_CALLS

__all__ = ["SPANS", "install", "root_dispatcher"]


def root_dispatcher() -> Any:
    """The dispatcher that every event and span of LlamaIndex reaches."""
    return instrumentation.root_dispatcher  # type: ignore[attr-defined]


class SpanTree:
    """The spans of this process that are open, or were a moment ago. Takes no locks.

    :ivar on_exit: called with a span's id and its result.
    :ivar on_drop: called with the id of a span that broke off, and the error.
    """

    def __init__(self) -> None:
        self._parents: dict[str, str | None] = {}
        self.on_exit: Callable[[str, Any], None] | None = None
        self.on_drop: Callable[[str, BaseException | None], None] | None = None

    def enter(self, span: str, parent: str | None) -> None:
        """A span begins."""
        # A generator's span exits before its first item, and so may its parents': the oldest are
        # forgotten when there are too many, not when they exit.
        self._parents[span] = parent
        if len(self._parents) > 2 * MAX_CALLS:
            for oldest in list(self._parents)[:MAX_CALLS]:
                self._parents.pop(oldest, None)

    def root(self, span: str) -> str:
        """The outermost span around `span`."""
        for outer in self.around(span):
            span = outer
        return span

    def around(self, span: str) -> list[str]:
        """The spans around `span`, from the nearest on."""
        spans: list[str] = []
        parent = self._parents.get(span)
        while parent is not None and len(spans) < 1000:
            spans.append(parent)
            parent = self._parents.get(parent)
        return spans


SPANS = SpanTree()


class _SpanHandler(BaseSpanHandler[BaseSpan]):
    """Maintains the tree. LlamaIndex swallows its errors, like those of all span handlers."""

    @classmethod
    def class_name(cls) -> str:
        return "TokenwireSpanHandler"

    def span_enter(
        self,
        id_: str,
        bound_args: Any,
        instance: Any = None,
        parent_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        SPANS.enter(id_, parent_id)

    def span_exit(
        self,
        id_: str,
        bound_args: Any,
        instance: Any = None,
        result: Any = None,
        **kwargs: Any,
    ) -> None:
        if SPANS.on_exit is not None and result is not None:
            SPANS.on_exit(id_, result)

    def span_drop(
        self,
        id_: str,
        bound_args: Any,
        instance: Any = None,
        err: BaseException | None = None,
        **kwargs: Any,
    ) -> None:
        if SPANS.on_drop is not None:
            SPANS.on_drop(id_, err)

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        return None

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        return None

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        return None


_handler = _SpanHandler()


def install() -> None:
    """Add the span handler to LlamaIndex; idempotent."""
    root = root_dispatcher()
    if not any(handler is _handler for handler in root.span_handlers):
        root.add_span_handler(_handler)
