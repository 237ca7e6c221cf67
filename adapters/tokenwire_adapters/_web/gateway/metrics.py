"""Prometheus metrics: the counters of the sink and of the gateway, read when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tokenwire_adapters._web.gateway.problems import Problem

if TYPE_CHECKING:
    from tokenwire._results import EndStats
    from tokenwire_adapters._web.gateway.service import Service

__all__ = ["render"]


def render(service: Service) -> tuple[str, bytes]:
    """The content type and body of ``/metrics``.

    :raises Problem: ``not_found`` when prometheus-client is not installed.
    """
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    except ImportError as error:
        raise Problem(
            "not_found", 'metrics need prometheus-client: pip install "tokenwire[metrics]"'
        ) from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service))
    return CONTENT_TYPE_LATEST, generate_latest(registry)


_COUNTERS = {
    "responses": ("Responses begun by producers of this process.", "writing.responses"),
    "tokens": ("Pieces of text written by producers of this process.", "writing.tokens"),
    "publishes": ("Publish calls to the backend.", "writing.publishes"),
    "published_events": ("Events published.", "writing.events"),
    "publish_retries": ("Publishes tried again.", "writing.retries"),
    "recoveries": ("Responses republished whole after an outage.", "writing.recoveries"),
    "publish_lost": ("Entries that the backend refused for good.", "writing.lost"),
    "fenced": ("Responses taken from a producer that was declared dead.", "writing.fenced"),
    "publish_seconds": ("Seconds spent waiting for publishes.", "writing.publish_seconds"),
    "received_events": ("Events received from the backend.", "reading.delivered_events"),
    "repeats_dropped": ("Repeated events dropped.", "reading.repeats_dropped"),
    "resyncs": ("Times a channel was read again after a gap.", "reading.resyncs"),
    "conflations": ("Times a slow watcher was given a summary.", "reading.conflations"),
    "joins": ("Watches begun.", "reading.joins"),
    "replays": ("Replays read from the backend.", "reading.replays"),
    "abandoned": ("Responses of dead producers ended by this process.", "reading.reaped"),
}
_GAUGES = {
    "open_responses": ("Responses being written by this process.", "open"),
    "waiting": ("Responses and events not yet with the backend.", "waiting"),
    "watchers": ("Open watches.", "watchers"),
    "channels": ("Channels that this process is subscribed to.", "channels"),
}


class _Collector:
    """Reads everything at one moment."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats = self._service.sink.stats()
        for name, (text, path) in _COUNTERS.items():
            yield CounterMetricFamily(f"tokenwire_{name}", text, value=_at(stats, path))
        for name, (text, path) in _GAUGES.items():
            yield GaugeMetricFamily(f"tokenwire_{name}", text, value=_at(stats, path))
        yield GaugeMetricFamily(
            "tokenwire_publish_latency_seconds",
            "Mean time of a publish since the start.",
            value=stats.writing.publish_seconds / max(1, stats.writing.publishes),
        )
        yield from _ends(stats.ends)
        yield from self._gateway(CounterMetricFamily, GaugeMetricFamily)

    def _gateway(self, counter: Any, gauge: Any) -> Iterable[Any]:
        service = self._service
        traffic = service.traffic
        connections = list(traffic.connections)
        prefix = "tokenwire_gateway_"
        yield counter(f"{prefix}sent_events", "Events sent to clients.", value=traffic.events_sent)
        yield counter(f"{prefix}sent_bytes", "Bytes of events sent.", value=traffic.bytes_sent)
        opened = traffic.connections.opened
        kinds = Counter(connection.kind for connection in connections)
        counts = {kind: kinds[kind] for kind in opened}
        yield _by(gauge, "kind", counts, f"{prefix}connections", "Open streams and sockets.")
        yield _by(counter, "kind", opened, f"{prefix}opened", "Streams and sockets opened.")
        now = max((c.loop.time() for c in connections), default=0.0)
        waits = [now - c.sending_since for c in connections if c.sending_since is not None]
        yield gauge(
            f"{prefix}lag_seconds",
            "How long the slowest client has kept a message waiting.",
            value=max(waits, default=0.0),
        )
        dropped, refused = traffic.connections.dropped, traffic.refused
        text = "Connections ended by the gateway."
        yield _by(counter, "reason", dropped, f"{prefix}dropped", text)
        yield _by(counter, "code", refused, f"{prefix}refused", "Requests refused.")
        answered = counter(
            f"{prefix}requests", "HTTP requests answered.", labels=["route", "status"]
        )
        for (route, status), count in traffic.answered.items():
            answered.add_metric([route, str(status)], count)
        yield answered


def _by(make: Any, label: str, counts: Mapping[Any, int], name: str, text: str) -> Any:
    """A family with one label, and a metric for each of its values."""
    family = make(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _ends(ends: EndStats) -> Iterable[Any]:
    """How responses ended, and how fast their text came."""
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    text = "Responses of this process that have ended."
    yield _by(CounterMetricFamily, "state", ends.states, "tokenwire_ends", text)
    for name, text, distribution in (
        (
            "tokenwire_first_token_seconds",
            "From the start of a response to its first text.",
            ends.first_token_seconds,
        ),
        (
            "tokenwire_tokens_per_second",
            "How fast the text of a response came, after the first token.",
            ends.tokens_per_second,
        ),
    ):
        bounds = [*(f"{bound:g}" for bound in distribution.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(distribution.counts), strict=True))
        yield HistogramMetricFamily(name, text, buckets=buckets, sum_value=distribution.total)


def _at(stats: Any, path: str) -> float:
    for name in path.split("."):
        stats = getattr(stats, name)
    return float(stats)
