"""Several gateways on a Redis Cluster of three masters, beside what the model of scale.py says.

    python benchmarks/cluster_load.py [--gateways 3] [--channels 12] [--watchers 10] [--seconds 20]
    python benchmarks/cluster_load.py --namespaces [--delay MS] [--cut master0:4]

Three masters, gateways in a process each, one producer that writes a response in every channel at
60 tokens a second, and, in this process, so many watchers of each channel at each gateway. All on
loopback, or each in a network namespace of its own, on a switch between them, where what is sent
can be counted, headers and all. Reports the CPU of gateways and masters, and what masters send,
each beside the model. Every watcher has to get every token, also where a cable is pulled.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import threading
import time
from typing import Any

import gateway_load
import namespaces
import scale
from redis_common import cpu, show

from tests.redis_support import RedisCluster

RATE = 60.0


def serve(url: str, host: str) -> None:
    """A gateway, as `tokenwire serve` has it, that admits many clients of one machine."""
    import uvicorn

    import tokenwire
    from tokenwire_adapters.asgi import Gateway, Limits

    many = 10**6
    limits = Limits(connections_per_client=many, request_rate=many, request_burst=many)
    # Without authorize= it would answer clients of its own machine only.
    gateway = Gateway(tokenwire.open_sink(url), authorize=lambda *_: True, limits=limits)
    protocol = "tokenwire_adapters.uvicorn:HttpProtocol"
    gateway_load.run_app(uvicorn, gateway, "uvloop", None, None, dict, protocol, host)


def produce(url: str, channels: int, seconds: float) -> None:
    """Write a token in each of the channels, 60 times a second."""
    import tokenwire

    with tokenwire.open_sink(url) as sink:
        writers = [sink.respond(f"c{number}") for number in range(channels)]
        sink.flush(60)
        gateway_load.send_reply(port=0)
        if not sys.stdin.readline():
            return  # the program that measures has gone

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
    network = namespaces.Network(options.delay) if options.namespaces else None
    join = network.join if network else namespaces.on_loopback
    places = [join(f"master{number}") for number in range(3)]
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(
            RedisCluster(
                appendonly=False,
                config={"protected-mode": "no"},
                places=[(place.address, place.within) for place in places],
            )
        )
        url = cluster.url.replace("redis://", "redis+cluster://")

        def start(place: namespaces.Node, *command: str) -> gateway_load.Server:
            server = gateway_load.Server.of([*place.within, *own, *command])
            stack.callback(server.stop)
            return server

        homes = [join(f"gateway{number}") for number in range(options.gateways)]
        servers = [start(home, "--serve", url, "--host", home.address) for home in homes]
        size = ("--channels", str(channels), "--seconds", str(seconds))
        producer = start(join("producer"), "--produce", url, *size)
        for number in range(channels):
            gateway_load.STREAMS[f"c{number}"] = (f"/channels/c{number}/events", b"\r\n\r\n")
        kinds = [f"c{number}" for number in range(channels) for _ in range(options.watchers)]
        clients = [
            client
            for server, home in zip(servers, homes, strict=True)
            for client in gateway_load.connect(server.port, kinds, home.address)
        ]
        time.sleep(2)  # what joining takes is over
        busy = [used(server._process.pid) for server in servers]
        masters, out = [cpu(node) for node in cluster.nodes], sent(cluster)
        wire = network.sent(places) if network else 0
        delivery = network.sent(homes) if network else 0
        begun = time.monotonic()
        producer.send_command(do="produce")
        if network and options.cut:
            name, _, length = options.cut.partition(":")
            for after, into in ((seconds / 3, False), (seconds / 3 + float(length), True)):
                pull = threading.Timer(after, network.plug, (name, into))
                stack.callback(pull.cancel)
                pull.start()
        latencies, _ = gateway_load.read_all(clients, begun + seconds * 6 + 120)
        took = time.monotonic() - begun
        wire = network.sent(places) - wire if network else 0
        delivery = network.sent(homes) - delivery if network else 0
        busy = [used(server._process.pid) - old for server, old in zip(servers, busy, strict=True)]
        masters = [cpu(node) - old for node, old in zip(cluster.nodes, masters, strict=True)]
        out = sent(cluster) - out
        produced = producer.read_reply()["produced"]
    lost = sum(produced - client.count for client in clients)
    tokens = produced * channels
    writes = scale.writes(len(kinds), RATE)
    per_copy = tokens * options.gateways
    report(
        {
            "network": "namespaces" if network else "loopback",
            "delay_ms": options.delay,
            "cut": options.cut,
            "gateways": options.gateways,
            "channels": channels,
            "watchers of a channel and gateway": options.watchers,
            "seconds": round(took, 1),
            "lost": lost,
            "p50_ms": round(statistics.median(latencies), 1),
            "p99_ms": round(sorted(latencies)[int(len(latencies) * 0.99)], 1),
            "max_ms": round(max(latencies), 1),
        },
        {
            "CPU µs of a gateway for a token": (
                statistics.mean(busy) * 1e6 / tokens,
                scale.gateway_us(channels, options.watchers, RATE),
            ),
            "CPU µs of the masters for a token": (sum(masters) * 1e6 / tokens, None),
            "bytes from the masters for a token and gateway": (
                out / per_copy,
                scale.REDIS_OUT_BYTES,
            ),
            "the same on the wire": (wire / per_copy, scale.REDIS_OUT_BYTES * scale.WIRE),
            "bytes on the wire from a gateway for a delivery": (
                delivery / (per_copy * options.watchers),
                scale.delivered_bytes(writes, RATE),
            ),
        },
    )
    if lost:
        sys.exit("a watcher missed a token")


def report(run: dict[str, Any], figures: dict[str, tuple[float, float | None]]) -> None:
    show(**run)
    for name, (measured, model) in figures.items():
        if not measured:  # nobody counts what goes over loopback
            continue
        ratio = {} if model is None else {"model": round(model, 3), "times": model / measured}
        show(what=name, measured=round(measured, 3), **ratio)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateways", type=int, default=3)
    parser.add_argument("--channels", type=int, default=12)
    parser.add_argument("--watchers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--namespaces", action="store_true", help="each in one of its own")
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="MS", help="of what each node sends"
    )
    parser.add_argument(
        "--cut", metavar="NODE:SECONDS", help="pull a cable in mid-run: master0, gateway0, producer"
    )
    parser.add_argument("--host", default="127.0.0.1", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--produce", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if (options.delay or options.cut) and not options.namespaces:
        parser.error("--delay and --cut need --namespaces")
    if options.namespaces:
        namespaces.enter()
    gateway_load.raise_file_limit()
    if options.serve:
        serve(options.serve, options.host)
    elif options.produce:
        produce(options.produce, options.channels, options.seconds)
    else:
        measure(options)


if __name__ == "__main__":
    main()
