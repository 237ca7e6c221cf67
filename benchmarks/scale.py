"""What so many watchers need: the model behind docs/scale.md, and what it was checked against.

    python benchmarks/scale.py            # the tables of docs/scale.md
    python benchmarks/scale.py --check    # prediction and measurement

The constants come from the other benchmarks, on two cores that other programs used as well.
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

__all__ = ["MEASURED", "SCENARIOS", "Needs", "Scenario", "needs", "predicted", "tables"]

WRITE_US = 11.4  # CPU of a gateway for one write to one watcher
TOKEN_US = 80.0  # CPU of a gateway for one token of one channel, whoever watches it
WRITES = 20.0  # a second and watcher, at most, once a loop is busy: `Limits(gather=0.05)`
REST = 6.0  # times what a round of writes took have to pass before the next one begins
WATCHER_KIB = 4.0  # of an event stream that is level; a WebSocket has 27
CHANNEL_KIB = 6.0  # of a channel with an open response, in a gateway
TOKEN_BYTES = 170.0  # of a token as a server-sent event
HEADER_BYTES = 66.0  # of Ethernet, IP and TCP around a write to a watcher
REDIS_TOKEN_US = 10.0  # CPU of Redis for a token, where a producer writes 50 responses at a time
REDIS_OUT_BYTES = 81.0  # of a token from Redis to one gateway
WIRE = 1.18  # times that on the wire, with the headers of Ethernet, IP and TCP
REDIS_CHANNEL_KIB = 12.0  # a response of 1,000 tokens and the log of a short chat
BUSY = 0.6  # of a core, that a process is to use


class Scenario(NamedTuple):
    """How watchers watch.

    :ivar per_channel: watchers of a channel.
    :ivar active: the share of channels in which a response streams at a time.
    :ivar rate: tokens of it a second.
    """

    name: str
    per_channel: int
    active: float
    rate: float = 60.0


class Needs(NamedTuple):
    """What that needs. Memory in GiB, bandwidth in Gbit/s."""

    gateways: int
    gateway_gib: float
    out_gbit: float
    redis_masters: int
    redis_gib: float
    redis_out_gbit: float


class ClusterPoint(NamedTuple):
    """A measurement of `cluster_load.py --namespaces`: CPU microseconds of a gateway for a token.

    :ivar watchers: of each channel, at each gateway.
    """

    gateways: int
    channels: int
    watchers: int
    cpu_us: float


class Point(NamedTuple):
    """A measurement: watchers of one channel at 60 tokens a second, and CPU in microseconds."""

    name: str
    watchers: int
    cpu_us_per_watcher: float


SCENARIOS = [Scenario("chats", 2, 0.05), Scenario("broadcasts", 1000, 1.0)]
WATCHERS = [1_000, 100_000, 10_000_000]
# CPU microseconds a second and watcher: 60 tokens / deliveries per CPU second.
MEASURED = [
    Point("100 event streams", 100, 60e6 / 81_500),
    Point("1,000 event streams", 1000, 60e6 / 251_261),
    Point("500 event streams", 500, 60e6 / 144_599),
    Point("500 WebSockets", 500, 60e6 / 150_997),
    Point("500 watchers of useChat's protocol", 500, 60e6 / 142_016),
    Point("500 watchers of AG-UI", 500, 60e6 / 143_758),
]
FITTED = 2  # of these, which gave the constants
CLUSTER = [
    ClusterPoint(3, 12, 1, 140.0),
    ClusterPoint(3, 12, 10, 240.0),
    ClusterPoint(3, 12, 40, 293.0),
    ClusterPoint(1, 48, 1, 89.0),
]


def writes(watchers: int, rate: float) -> float:
    """How often a second a gateway with so many watchers writes to each of them."""
    return min(rate, max(WRITES, 1e6 / (REST * watchers * WRITE_US)))


def gateway_us(channels: int, watchers: int, rate: float = 60.0) -> float:
    """CPU microseconds of a gateway for a token, with so many watchers of each channel."""
    return TOKEN_US + watchers * writes(channels * watchers, rate) / rate * WRITE_US


def delivered_bytes(writes: float, rate: float) -> float:
    """Bytes on the wire of a token for a watcher that is written to so often a second."""
    return TOKEN_BYTES + HEADER_BYTES * writes / rate


def predicted(point: Point, rate: float = 60.0) -> float:
    """The CPU of a watcher, in microseconds a second, as the model has it."""
    return writes(point.watchers, rate) * WRITE_US + rate * TOKEN_US / point.watchers


def needs(scenario: Scenario, watchers: int) -> Needs:
    """What so many watchers need."""
    channels = max(1, watchers // scenario.per_channel)
    streaming = channels * scenario.active
    tokens = streaming * scenario.rate
    writing = streaming * scenario.per_channel * min(scenario.rate, WRITES) * WRITE_US / 1e6
    gateways = 1
    for _ in range(50):  # the more gateways, the more of them have a channel
        copies = min(gateways, scenario.per_channel)
        needed = math.ceil((writing + copies * tokens * TOKEN_US / 1e6) / BUSY)
        if needed <= gateways:
            break
        gateways = needed
    copies = min(gateways, scenario.per_channel)
    delivered = tokens * scenario.per_channel
    size = delivered_bytes(min(scenario.rate, WRITES), scenario.rate)
    kib = watchers * WATCHER_KIB + channels * copies * CHANNEL_KIB
    return Needs(
        gateways=gateways,
        gateway_gib=kib / 2**20,
        out_gbit=delivered * size * 8 / 1e9,
        redis_masters=math.ceil(tokens * REDIS_TOKEN_US / 1e6 / BUSY),
        redis_gib=channels * REDIS_CHANNEL_KIB / 2**20,
        redis_out_gbit=tokens * copies * REDIS_OUT_BYTES * WIRE * 8 / 1e9,
    )


def tables() -> str:
    """What docs/scale.md has."""
    head = "watchers|gateway processes (a core each)|their memory|to watchers"
    head += "|Redis masters|their memory|to gateways"
    lines: list[str] = []
    for scenario in SCENARIOS:
        name, share = scenario.name.capitalize(), f"{scenario.active:.0%}"
        title = f"**{name}**: {scenario.per_channel:,} watchers of a channel, {share} of the"
        title += f" channels streaming at {scenario.rate:.0f} tokens a second."
        lines += [title, "", f"| {head.replace('|', ' | ')} |", "| --- " * 7 + "|"]
        for watchers in WATCHERS:
            one = needs(scenario, watchers)
            lines.append(
                f"| {watchers:,} | {one.gateways:,} | {one.gateway_gib:,.2f} GiB"
                f" | {one.out_gbit:,.3f} Gbit/s | {one.redis_masters:,} | {one.redis_gib:,.2f} GiB"
                f" | {one.redis_out_gbit:,.4f} Gbit/s |"
            )
        lines.append("")
    return "\n".join(lines)


def check() -> str:
    """The model beside what was measured."""
    lines = [
        "| one channel, 60 tokens a second | measured | model | |",
        "| --- | --- | --- | --- |",
    ]
    for number, point in enumerate(MEASURED):
        ratio = predicted(point) / point.cpu_us_per_watcher
        used = "gave the constants" if number < FITTED else "checks them"
        lines.append(
            f"| {point.name} | {point.cpu_us_per_watcher:.0f} µs | {predicted(point):.0f} µs,"
            f" {ratio:.2f} times | {used} |"
        )
    lines += [
        "",
        "| gateways, channels, watchers of a channel at each | a token, measured | model |",
        "| --- | --- | --- |",
    ]
    for one in CLUSTER:
        model = gateway_us(one.channels, one.watchers)
        lines.append(
            f"| {one.gateways}, {one.channels}, {one.watchers} | {one.cpu_us:.0f} µs"
            f" | {model:.0f} µs, {model / one.cpu_us:.2f} times |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(check() if "--check" in sys.argv else tables())
