"""OpenTelemetry spans, where opentelemetry-api is installed; else nothing."""

from __future__ import annotations

import functools
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Span", "span"]


@functools.cache
def _tracing() -> tuple[Any, Any]:
    """The module of OpenTelemetry, loaded for the first request, and our tracer."""
    try:
        from opentelemetry import trace
    except ImportError:  # pragma: no cover - the extra is not installed
        return None, None
    return trace, trace.get_tracer("tokenwire.gateway")


class Span:
    """What may be said about what is going on."""

    __slots__ = ("_span", "kept")

    def __init__(self, inner: Any = None) -> None:
        self._span = inner
        self.kept = False

    def keep(self) -> None:
        """Have it go on after the body that it covers, until `end`."""
        if self._span is not None:
            self.kept = True

    def end(self) -> None:
        """End it, where it was kept."""
        if self.kept:
            self._span.end()

    def set(self, name: str, value: str | float) -> None:
        """Set an attribute."""
        if self._span is not None:
            self._span.set_attribute(name, value)


_NOTHING = Span()


@contextmanager
def span(name: str, attributes: Mapping[str, Any]) -> Generator[Span, None, None]:
    """Cover the body with a span."""
    trace, tracer = _tracing()
    if tracer is None:
        yield _NOTHING
        return
    inner = tracer.start_span(name, attributes=dict(attributes))
    outer = Span(inner)
    try:
        with trace.use_span(inner):
            yield outer
    finally:
        if not outer.kept:
            inner.end()
