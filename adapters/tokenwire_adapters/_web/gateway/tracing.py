"""OpenTelemetry spans, where opentelemetry-api is installed; else nothing."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Span", "span"]

try:
    from opentelemetry import trace
except ImportError:  # pragma: no cover - the extra is not installed
    _trace: Any = None
    _tracer: Any = None
else:
    _trace = trace
    _tracer = trace.get_tracer("tokenwire.gateway")


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
    if _tracer is None:
        yield _NOTHING
        return
    inner = _tracer.start_span(name, attributes=dict(attributes))
    outer = Span(inner)
    try:
        with _trace.use_span(inner):
            yield outer
    finally:
        if not outer.kept:
            inner.end()
