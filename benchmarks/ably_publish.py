"""Publishing through the sink against a bare loop of `channel.publish` tasks, on the local Ably.

    python -m benchmarks.ably_publish

Both use the same client and server; only ratios mean anything. The server is part of the
measurement: it shares the machine, and takes longer for a message than the client does.
"""

from __future__ import annotations

import asyncio
import sys
import time

from ably.types.message import Message

from tests.adapters.ably.places import sink
from tokenwire_adapters.testing.ably import ServerThread, Settings, realtime

TOKENS = [f" token{i % 100}" for i in range(2000)]


async def bare(thread: ServerThread) -> tuple[float, float]:
    """One create, then an append task for each token, all awaited at the end."""
    async with realtime(thread.server) as client:
        channel = client.channels.get("bare")
        result = await channel.publish(Message(name="response", data=""))
        serial = result.serials[0]
        extras = {"headers": {"responseId": "r"}}
        begun = time.perf_counter()
        tasks = [
            asyncio.create_task(
                channel.append_message(Message(serial=serial, data=token, extras=extras))
            )
            for token in TOKENS
        ]
        handed = time.perf_counter() - begun
        await asyncio.gather(*tasks)
        return handed, time.perf_counter() - begun


def through_sink(thread: ServerThread) -> tuple[float, float]:
    with sink(thread, rate=0) as made:
        with made.respond("warm") as response:
            response.write("up")
        response.wait(30)
        response = made.respond("sink")
        begun = time.perf_counter()
        for token in TOKENS:
            response.write(token)
        handed = time.perf_counter() - begun
        response.finish()
        response.wait(60)
        return handed, time.perf_counter() - begun


def latency(thread: ServerThread, rounds: int = 30) -> tuple[float, float]:
    """From a write to a watcher in another client, against bare publish to subscribe."""

    async def plain() -> float:
        async with realtime(thread.server) as out, realtime(thread.server, "viewer") as back:
            arrived = asyncio.Event()
            await back.channels.get("plain").subscribe(lambda _: arrived.set())
            channel = out.channels.get("plain")
            times: list[float] = []
            for _ in range(rounds):
                arrived.clear()
                begun = time.perf_counter()
                await channel.publish(Message(name="token", data="x"))
                await arrived.wait()
                times.append(time.perf_counter() - begun)
            return sorted(times)[rounds // 2]

    times: list[float] = []
    with sink(thread, rate=0) as agent, sink(thread, "viewer") as viewer:
        watch = viewer.watch("latency").open()
        for number in range(rounds):
            begun = time.perf_counter()
            response = agent.respond("latency", response_id=f"r{number}")
            response.write("x")
            for event in watch:
                if event.type == "delta":
                    break
            times.append(time.perf_counter() - begun)
            response.finish()
            response.wait(30)
        watch.close()
    return asyncio.run(plain()), sorted(times)[rounds // 2]


def main() -> None:
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        rows = [(asyncio.run(bare(thread)), through_sink(thread)) for _ in range(3)]
        bare_handed = min(row[0][0] for row in rows)
        bare_done = min(row[0][1] for row in rows)
        sink_handed = min(row[1][0] for row in rows)
        sink_done = min(row[1][1] for row in rows)
        print(f"{len(TOKENS)} tokens, best of three")
        print(
            f"handing over: bare tasks {bare_handed * 1e6 / len(TOKENS):.1f} us a token, "
            f"write {sink_handed * 1e6 / len(TOKENS):.1f} us: "
            f"{bare_handed / sink_handed:.1f} times less"
        )
        print(
            f"until all is acknowledged: bare {bare_done * 1000:.0f} ms, "
            f"sink {sink_done * 1000:.0f} ms: {bare_done / sink_done:.1f} times sooner"
        )
        plain, mine = latency(thread)
        print(
            f"first token to a watcher: bare {plain * 1000:.1f} ms, "
            f"sink {mine * 1000:.1f} ms: {mine / plain:.2f} times"
        )


if __name__ == "__main__":
    sys.exit(main())
