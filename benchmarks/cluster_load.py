"""Several gateways on a Redis Cluster of three masters, beside what the model of scale.py says.

    python benchmarks/cluster_load.py [--gateways 3] [--channels 12] [--watchers 10] [--seconds 20]

All on loopback: three masters, gateways in a process each, one producer that writes a response in
every channel at 60 tokens a second, and, in this process, so many watchers of each channel at each
gateway. Reports the CPU of gateways and masters, and what masters send, each beside the model.
Every watcher has to get every token.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from typing import Any

import gateway_load
import scale
from redis_common import cpu, show

from tests.redis_support import RedisCluster

RATE = 60.0


def serve(url: str) -> None:
    """A gateway, as `tokenwire serve` has it, that admits many clients of one machine."""
    import uvicorn

    import tokenwire
    from tokenwire_adapters.asgi import Gateway, Limits

    many = 10**6
    limits = Limits(connections_per_client=many, request_rate=many, request_burst=many)
    gateway = Gateway(tokenwire.open_sink(url), limits=limits)
    protocol = "tokenwire_adapters.uvicorn:HttpProtocol"
    gateway_load.run_app(uvicorn, gateway, "uvloop", None, None, dict, protocol)


def produce(url: str, channels: int, seconds: float) -> None:
    """Write a token in each of the channels, 60 times a second."""
    import tokenwire

    with tokenwire.open_sink(url) as sink:
        writers = [sink.respond(f"c{number}") for number in range(channels)]
        sink.flush(60)
        gateway_load.send_reply(port=0)
        sys.stdin.readline()

        def write(text: str) -> None:
            for writer in writers:
                writer.write(text)

        def end() -> None:
            for writer in writers:
                writer.finish()

        gateway_load.send_reply(produced=gateway_load.produce(write, end, RATE, seconds))
        sink.flush(60)


def used(pid: int) -> float:
    """CPU seconds of a process."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sent(cluster: RedisCluster) -> int:
    """Bytes that the masters have sent to clients."""
    return sum(int(node.info("stats")["total_net_output_bytes"]) for node in cluster.nodes)


def measure(options: argparse.Namespace) -> None:
    channels, seconds = options.channels, options.seconds
    own = [sys.executable, __file__]
    with RedisCluster(appendonly=False) as cluster:
        url = cluster.url.replace("redis://", "redis+cluster://")
        servers = [gateway_load.Server.of([*own, "--serve", url]) for _ in range(options.gateways)]
        producer = gateway_load.Server.of(
            [*own, "--produce", url, "--channels", str(channels), "--seconds", str(seconds)]
        )
        for number in range(channels):
            gateway_load.STREAMS[f"c{number}"] = (f"/channels/c{number}/events", b"\r\n\r\n")
        kinds = [f"c{number}" for number in range(channels) for _ in range(options.watchers)]
        clients = [one for server in servers for one in gateway_load.connect(server.port, kinds)]
        time.sleep(2)  # what joining takes is over
        busy = [used(server._process.pid) for server in servers]
        masters, out = [cpu(node) for node in cluster.nodes], sent(cluster)
        begun = time.monotonic()
        producer.send_command(do="produce")
        latencies, _ = gateway_load.read_all(clients, begun + seconds * 6 + 120)
        took = time.monotonic() - begun
        busy = [used(server._process.pid) - old for server, old in zip(servers, busy, strict=True)]
        masters = [cpu(node) - old for node, old in zip(cluster.nodes, masters, strict=True)]
        out = sent(cluster) - out
        produced = producer.read_reply()["produced"]
        lost = sum(produced - client.count for client in clients)
        for server in (*servers, producer):
            server.stop()
    tokens = produced * channels
    each = tokens * scale.TOKEN_US + len(kinds) * produced * scale.WRITE_US
    model = each / 1e6
    report(
        {
            "gateways": options.gateways,
            "channels": channels,
            "watchers of a channel and gateway": options.watchers,
            "seconds": round(took, 1),
            "lost": lost,
            "p50_ms": round(statistics.median(latencies), 1),
            "p99_ms": round(sorted(latencies)[int(len(latencies) * 0.99)], 1),
        },
        {
            "CPU seconds of a gateway": (statistics.mean(busy), model),
            "CPU µs of the masters for a token": (sum(masters) * 1e6 / tokens, None),
            "bytes from the masters for a token and gateway": (
                out / tokens / options.gateways,
                scale.REDIS_OUT_BYTES,
            ),
        },
    )


def report(run: dict[str, Any], figures: dict[str, tuple[float, float | None]]) -> None:
    show(**run)
    for name, (measured, model) in figures.items():
        ratio = {} if model is None else {"model": round(model, 3), "times": model / measured}
        show(what=name, measured=round(measured, 3), **ratio)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateways", type=int, default=3)
    parser.add_argument("--channels", type=int, default=12)
    parser.add_argument("--watchers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--produce", help=argparse.SUPPRESS)
    options = parser.parse_args()
    gateway_load.raise_file_limit()
    if options.serve:
        serve(options.serve)
    elif options.produce:
        produce(options.produce, options.channels, options.seconds)
    else:
        measure(options)


if __name__ == "__main__":
    main()
