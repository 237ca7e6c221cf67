"""Which span belongs to which, what tools answered, and what ended without an event.

LlamaIndex's events name their own span only. Spans are told to span handlers; this one holds ids
and parents, and calls whoever wants to know of an end.
"""

# LlamaIndex tells span handlers much that we have no use for.
# ruff: noqa: ARG002

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llama_index.core import instrumentation
from llama_index.core.instrumentation.span import BaseSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler

from tokenwire_adapters._agents.calls import MAX_CALLS

__all__ = ["TREE", "install", "root_dispatcher", "uninstall"]


def root_dispatcher() -> Any:
    """The dispatcher that every event and span of LlamaIndex reaches."""
    return instrumentation.root_dispatcher  # type: ignore[attr-defined]


class Tree:
    """The spans of this process that are open, or were a moment ago. Takes no locks."""

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
        for above in self.above(span):
            span = above
        return span

    def above(self, span: str) -> list[str]:
        """The spans around `span`, from the nearest on."""
        found: list[str] = []
        at = self._parents.get(span)
        while at is not None and len(found) < 1000:
            found.append(at)
            at = self._parents.get(at)
        return found


TREE = Tree()


class _SpanHandler(BaseSpanHandler[BaseSpan]):
    """Keeps the tree. Its errors are swallowed by LlamaIndex, like all span handlers'."""

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
        TREE.enter(id_, parent_id)

    def span_exit(
        self,
        id_: str,
        bound_args: Any,
        instance: Any = None,
        result: Any = None,
        **kwargs: Any,
    ) -> None:
        if TREE.on_exit is not None and result is not None:
            TREE.on_exit(id_, result)

    def span_drop(
        self,
        id_: str,
        bound_args: Any,
        instance: Any = None,
        err: BaseException | None = None,
        **kwargs: Any,
    ) -> None:
        if TREE.on_drop is not None:
            TREE.on_drop(id_, err)

    def new_span(self, *args: Any, **kwargs: Any) -> None:
        return None

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> None:
        return None

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> None:
        return None


_handler = _SpanHandler()


def install() -> None:
    """Have LlamaIndex tell of its spans; idempotent."""
    root = root_dispatcher()
    if not any(handler is _handler for handler in root.span_handlers):
        root.add_span_handler(_handler)


def uninstall() -> None:
    """Undo `install`."""
    root = root_dispatcher()
    root.span_handlers = [each for each in root.span_handlers if each is not _handler]
