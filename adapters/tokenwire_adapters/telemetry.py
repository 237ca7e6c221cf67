"""OpenTelemetry: a span for each response, with the names of the GenAI semantic conventions.

::

    from tokenwire_adapters.telemetry import trace_responses

    trace_responses(sink)

Needs the extra ``metrics``; where the spans go is the application's own OpenTelemetry set-up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenwire import ResponseSummary, Sink
from tokenwire.errors import MissingExtra

try:
    from opentelemetry import trace
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as error:
    raise MissingExtra('spans need opentelemetry-api: pip install "tokenwire[metrics]"') from error

__all__ = ["trace_responses"]

_NANOSECONDS = 1_000_000  # in a millisecond
_INPUT_TOKENS = ("input_tokens", "prompt_tokens", "inputTokens", "prompt_eval_count")
_OUTPUT_TOKENS = ("output_tokens", "completion_tokens", "outputTokens", "eval_count")


def trace_responses(
    sink: Sink, *, tracer_provider: TracerProvider | None = None
) -> Callable[[], None]:
    """Have each response that `sink` writes from now on become a span, once it has ended.

    Its parent is the span that was current where the response began. Texts are not in it.

    :param tracer_provider: by default the global one.
    :return: a function that undoes it.
    """
    tracer = trace.get_tracer("tokenwire", tracer_provider=tracer_provider)

    def observe(summary: ResponseSummary) -> None:
        model = summary.metadata.get("model")
        span = tracer.start_span(
            f"chat {model}" if isinstance(model, str) else "chat",
            kind=SpanKind.CLIENT,
            start_time=summary.started_at * _NANOSECONDS,
            attributes=_attributes(summary),
        )
        _describe(span, summary)
        span.end(summary.ended_at * _NANOSECONDS)

    return sink.add_response_observer(observe)


def _attributes(summary: ResponseSummary) -> dict[str, Any]:
    usage = summary.usage or {}
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": summary.metadata.get("provider"),
        "gen_ai.request.model": summary.metadata.get("model"),
        "gen_ai.conversation.id": summary.channel,
        "gen_ai.response.id": summary.id,
        "gen_ai.usage.input_tokens": _first_number(usage, _INPUT_TOKENS),
        "gen_ai.usage.output_tokens": _first_number(usage, _OUTPUT_TOKENS),
        "tokenwire.run": summary.run,
        "tokenwire.state": summary.state,
        "tokenwire.delivery": summary.status,
        "tokenwire.tokens": summary.tokens,
        "tokenwire.first_token_seconds": summary.first_token_seconds,
        "tokenwire.tokens_per_second": summary.tokens_per_second,
    }
    if summary.finish_reason is not None:
        attributes["gen_ai.response.finish_reasons"] = (summary.finish_reason,)
    kinds = (str, int, float, tuple)
    return {name: value for name, value in attributes.items() if isinstance(value, kinds)}


def _describe(span: Span, summary: ResponseSummary) -> None:
    if summary.first_token_at is not None:
        span.add_event("first token", timestamp=summary.first_token_at * _NANOSECONDS)
    if summary.state in ("failed", "abandoned"):
        error = summary.error or summary.state
        kind, colon, _ = error.partition(": ")
        span.set_attribute("error.type", kind if colon and kind.isidentifier() else "_OTHER")
        span.set_status(Status(StatusCode.ERROR, error))


def _first_number(usage: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := usage.get(name), int)), None)
