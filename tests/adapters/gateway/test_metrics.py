"""What an operator looks at: counters of ends and speed, spans, the dashboard in examples."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.needs import needs

needs("prometheus_client")
needs("opentelemetry.sdk")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.parser import text_string_to_metric_families

from tests.adapters.gateway.support import PATIENCE, serving
from tokenwire import MemoryBackend, ResponseSummary, Sink
from tokenwire.testing import FaultyBackend
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.telemetry import trace_responses

DASHBOARD = Path(__file__).parents[3] / "examples" / "observability" / "grafana-dashboard.json"


@pytest.fixture
def sink():
    with Sink(MemoryBackend()) as sink:
        yield sink


def write(sink, *tokens, **options):
    with sink.respond("chat-42", **options) as response:
        for token in tokens:
            response.write(token)
            sink.flush()
    response.wait(60)
    return response


def end_in_every_state(sink):
    write(sink, "Hel", "lo").finish()
    with pytest.raises(ValueError, match="broke"), sink.respond("chat-42") as response:
        raise ValueError("broke")
    response.wait(60)
    response = sink.respond("chat-42", response_id="stopped")
    response.write("so far")
    sink.cancel("chat-42", "stopped")
    sink.respond("chat-42").abandon("gone")
    sink.flush()


def scraped(sink):
    """The samples of ``/metrics``, by name and labels."""
    import httpx

    with serving(Gateway(sink)) as server:
        text = httpx.get(f"{server.url}/metrics", timeout=PATIENCE).raise_for_status().text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_ends_and_speed_are_counted(sink):
    end_in_every_state(sink)
    ends = sink.stats().ends
    assert ends.states == {"complete": 1, "failed": 1, "cancelled": 1, "abandoned": 1}
    assert ends.first_token_seconds.count == 2
    assert ends.tokens_per_second.count <= 1
    samples = scraped(sink)
    for state in ("complete", "failed", "cancelled", "abandoned"):
        assert samples["tokenwire_ends_total", (("state", state),)] == 1
    assert samples["tokenwire_first_token_seconds_count", ()] == 2
    assert samples["tokenwire_first_token_seconds_bucket", (("le", "+Inf"),)] == 2
    assert samples["tokenwire_tokens_total", ()] == 3


def test_a_summary_has_the_times():
    summary = ResponseSummary(
        id="r", channel="c", run=None, metadata={}, state="complete", status="delivered",
        tokens=11, started_at=1000, first_token_at=1500, ended_at=2500,
    )  # fmt: skip
    assert summary.first_token_seconds == 0.5
    assert summary.tokens_per_second == 10


def test_every_metric_of_the_dashboard_is_there(sink):
    end_in_every_state(sink)
    names = {name for name, _ in scraped(sink)}
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [variable.get("query", "") for variable in dashboard["templating"]["list"]]
    used = {name for text in expressions for name in re.findall(r"\btokenwire_\w+", text)}
    assert len(used) > 15
    # These have a sample once there is a label for one.
    labelled = {"tokenwire_gateway_refused_total", "tokenwire_gateway_dropped_total"}
    assert used <= names | labelled
    for topic in ("tokens_total", "first_token", "tokens_per_second", "ends", "watchers", "lag"):
        assert any(topic in name for name in used), topic


def test_an_observer_that_fails_harms_nothing(sink, caplog):
    seen = []
    remove = sink.add_response_observer(lambda summary: 1 / 0)
    sink.add_response_observer(seen.append)
    write(sink, "Hello")
    assert [one.state for one in seen] == ["complete"]
    assert "an observer of responses failed" in caplog.text
    remove()
    remove()
    caplog.clear()
    write(sink, "Hello")
    assert len(seen) == 2
    assert not caplog.records


@pytest.mark.parametrize("inline", [True, False])
def test_responses_become_spans(inline):
    """Also where the end is published on the I/O thread, far from the context of the agent."""
    with Sink(FaultyBackend(MemoryBackend(), inline=inline)) as sink:
        check_spans(sink)


def check_spans(sink):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    remove = trace_responses(sink, tracer_provider=provider)
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("agent") as parent:
        with sink.respond("chat-42", response_id="r1", metadata={"model": "m"}) as response:
            response.write("Hello")
            response.finish("stop", usage={"prompt_tokens": 3, "completion_tokens": 2})
        response.wait(60)
    with pytest.raises(ValueError, match="broke"), sink.respond("chat-42") as response:
        raise ValueError("broke")
    response.wait(60)
    sink.flush()
    first, _, second = exporter.get_finished_spans()
    assert (first.name, first.kind) == ("chat m", SpanKind.CLIENT)
    assert first.parent.span_id == parent.get_span_context().span_id
    assert first.attributes["gen_ai.operation.name"] == "chat"
    assert first.attributes["gen_ai.request.model"] == "m"
    assert first.attributes["gen_ai.conversation.id"] == "chat-42"
    assert first.attributes["gen_ai.response.id"] == "r1"
    assert first.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert first.attributes["gen_ai.usage.input_tokens"] == 3
    assert first.attributes["gen_ai.usage.output_tokens"] == 2
    assert first.attributes["tokenwire.state"] == "complete"
    assert [event.name for event in first.events] == ["first token"]
    assert first.start_time <= first.events[0].timestamp <= first.end_time
    assert "Hello" not in str(first.to_json())
    assert (second.name, second.parent) == ("chat", None)
    assert second.attributes["error.type"] == "ValueError"
    assert second.status.status_code is StatusCode.ERROR
    remove()
    write(sink, "Hello")
    assert len(exporter.get_finished_spans()) == 3
