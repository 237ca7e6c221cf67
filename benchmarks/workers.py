"""What a second gateway process adds: two on one Redis beside one, with as many watchers each.

    python benchmarks/workers.py [--watchers 300] [--rounds 3] [--seconds 10]

A process of `tokenwire serve --workers N` is one of these. All watch one channel, in which 60
tokens a second are written. The clients, in this process, need a core for themselves, so that two
gateways are not given two whole cores here: what counts is the CPU that a delivery takes. Two carry
twice as much as one, times what a delivery takes of one alone, by what it takes of each of two.
Each token is sent by itself, since what gathers depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import cluster_load
import gateway_load
from redis_common import server, show

CHANNEL = "c0"  # the first of those that `cluster_load` writes in


def measure(gateways: int, watchers: int, seconds: float) -> dict[str, float]:
    """Deliveries of a CPU second of a gateway, and latencies. Exits where a token was lost."""
    own = [sys.executable, str(Path(cluster_load.__file__))]
    with server() as redis:
        servers = [gateway_load.Server.of([*own, "--serve", redis.url]) for _ in range(gateways)]
        producer = gateway_load.Server.of(
            [*own, "--produce", redis.url, "--channels", "1", "--seconds", str(seconds)]
        )
        gateway_load.STREAMS[CHANNEL] = (f"/channels/{CHANNEL}/events?gather=0", b"\r\n\r\n")
        kinds = [CHANNEL] * watchers
        clients = [one for each in servers for one in gateway_load.connect(each.port, kinds)]
        time.sleep(1)  # what joining takes is over
        busy = sum(cluster_load.used(each._process.pid) for each in servers)
        producer.send_command(do="produce")
        latencies, _ = gateway_load.read_all(clients, time.monotonic() + seconds * 6 + 120)
        busy = sum(cluster_load.used(each._process.pid) for each in servers) - busy
        produced = producer.read_reply()["produced"]
        for each in (*servers, producer):
            each.stop()
    if any(client.count != produced for client in clients):
        sys.exit("a watcher missed a token")
    latencies.sort()
    return {
        "deliveries_per_cpu_second": produced * len(clients) / busy,
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[int(len(latencies) * 0.99)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--watchers", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    gateway_load.raise_file_limit()
    ratios: list[float] = []
    for _ in range(options.rounds):
        one, two = (measure(n, options.watchers, options.seconds) for n in (1, 2))
        ratios.append(2 * two["deliveries_per_cpu_second"] / one["deliveries_per_cpu_second"])
        for gateways, run in ((1, one), (2, two)):
            show(gateways=gateways, **{name: round(value, 1) for name, value in run.items()})
    show(two_carry=round(statistics.median(ratios), 2), rounds=[round(one, 2) for one in ratios])


if __name__ == "__main__":
    main()
