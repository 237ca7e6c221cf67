"""What reading costs: Redis commands, latency, joining late, memory.

python benchmarks/redis_reading.py [commands|latency|join|memory]...
"""

from __future__ import annotations

import asyncio
import sys
import time

import redis.asyncio
from redis_common import commands, percentile, server, show, since, text_of, timed, token

from tests.redis_support import RedisServer
from tokenwire import open_sink


async def count_commands(started: RedisServer) -> None:
    """Redis commands for each token, with more and more watchers, in one and in many channels."""
    for watchers, channels in ((1, 1), (10, 1), (100, 1), (1000, 1), (100, 100), (1000, 1000)):
        started.cli("FLUSHALL")
        async with open_sink(started.url) as sink, open_sink(started.url) as reader:
            names = [f"c{number % channels}" for number in range(watchers)]
            watches = [await reader.watch(name).aopen() for name in names]
            writers = [sink.respond(f"c{number}") for number in range(channels)]
            await sink.aflush(30)
            before = commands(started)
            tokens = 100 if channels > 1 else 1000
            for number in range(tokens):
                for writer in writers:
                    writer.write(token(number))
                await asyncio.sleep(0.005)
            for writer in writers:
                writer.finish()
            await sink.aflush(60)
            texts = await asyncio.gather(*(text_of(watch) for watch in watches))
            assert set(texts) == {"".join(token(number) for number in range(tokens))}
            ran = since(before, commands(started))
            written = tokens * channels
            show(
                what="commands",
                watchers=watchers,
                channels=channels,
                tokens=written,
                sent_per_token=round(ran.get("evalsha", 0) / written, 4),
                all_per_token=round(sum(ran.values()) / written, 3),
                reads=ran.get("xrange", 0) + ran.get("xread", 0) + ran.get("hgetall", 0),
            )


async def latency(started: RedisServer, tokens: int = 1000, pace: float = 0.01) -> None:
    """From write to a watcher in another sink, at 100 tokens a second."""
    started.cli("FLUSHALL")
    ours: list[float] = []
    async with open_sink(started.url) as sink, open_sink(started.url) as reader:
        watch = await reader.watch("c").aopen()
        writer = sink.respond("c")

        async def produce() -> None:
            due = time.perf_counter()
            for _ in range(tokens):
                writer.write(f"{time.perf_counter()} ")
                due += pace
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.finish()

        task = asyncio.create_task(produce())
        async for event in watch:
            if event.type == "delta":
                now = time.perf_counter()
                ours += [now - float(sent) for sent in event.text.split()]
            if event.type == "end":
                break
        await task
    raw = await _raw_latency(started, tokens, pace)
    for name, values in (("tokenwire", ours), ("XADD + XREAD BLOCK", raw)):
        show(
            what=f"latency, {name}",
            tokens=len(values),
            p50_ms=round(percentile(values, 0.5) * 1000, 2),
            p99_ms=round(percentile(values, 0.99) * 1000, 2),
        )


async def _raw_latency(started: RedisServer, tokens: int, pace: float) -> list[float]:
    writer = redis.asyncio.Redis.from_url(started.url)
    reader = redis.asyncio.Redis.from_url(started.url, socket_timeout=None)
    found: list[float] = []
    await reader.ping()

    async def produce() -> None:
        due = time.perf_counter()
        for _ in range(tokens):
            await writer.xadd("raw", {"e": str(time.perf_counter())})
            due += pace
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    task = asyncio.create_task(produce())
    last = "0"
    while len(found) < tokens:
        reply = await reader.xread({"raw": last}, block=1000)
        now = time.perf_counter()
        entries = [one for _, part in _streams(reply) for one in part]
        for entry_id, fields in entries:
            last = entry_id
            found.append(now - float(fields[b"e"]))
    await task
    await writer.aclose()
    await reader.aclose()
    return found


def _streams(reply):
    """Streams and entries, as any version of redis-py gives them."""
    if not isinstance(reply, dict):
        return reply
    return [(name, [e for part in parts for e in (part if isinstance(part, list) else [part])])
            for name, parts in reply.items()]  # fmt: skip


async def join(started: RedisServer, tokens: int = 10_000) -> None:
    """A watcher that comes after so many tokens, against reading the stream of all of them."""
    started.cli("FLUSHALL")
    client = redis.asyncio.Redis.from_url(started.url)
    async with open_sink(started.url) as sink, open_sink(started.url) as reader:
        writer = sink.respond("c", response_id="r")
        pipeline = client.pipeline(transaction=False)
        for number in range(tokens):
            writer.write(token(number))
            pipeline.xadd("raw", {"e": token(number)})
            if number % 20 == 0:
                await sink.aflush(30)
        await sink.aflush(30)
        await pipeline.execute()
        await reader.watch("other").aopen()  # connected
        sent = int(started.info("stats")["total_net_output_bytes"])
        with timed() as taken:
            watch = await reader.watch("c").aopen()
            event = await anext(aiter(watch))
        assert len(event.response.text) == sum(len(token(n)) for n in range(tokens))
        late = int(started.info("stats")["total_net_output_bytes"])
        text = len(event.response.text.encode())
        show(what="join", tokens=tokens, ms=round(taken[0] * 1000, 2), bytes=late - sent, text=text)
        writer.finish()
    sent = int(started.info("stats")["total_net_output_bytes"])
    with timed() as taken:
        entries = await client.xrange("raw")
    late = int(started.info("stats")["total_net_output_bytes"])
    assert len(entries) == tokens
    show(what="join, raw XRANGE", ms=round(taken[0] * 1000, 2), bytes=late - sent)
    await client.aclose()


async def memory(started: RedisServer, tokens: int = 1000, responses: int = 100) -> None:
    """Bytes in Redis for a response of 1,000 tokens, a token at a time; and a plain stream."""
    text = sum(len(token(number).encode()) for number in range(tokens))
    for granularity in ("response", "token"):
        for together in (1, 20):
            started.cli("FLUSHALL")
            empty = int(started.info("memory")["used_memory"])
            options = {"granularity": granularity, "events": 0}
            async with open_sink(started.url, **options) as sink:
                for name in range(responses if together > 1 else 5):
                    with sink.respond(f"c{name}", response_id="r") as writer:
                        for number in range(tokens):
                            writer.write(token(number))
                            if number % together == 0:
                                await sink.aflush(30)
                    await sink.aflush(30)
                used = sum(
                    int(started.cli("MEMORY", "USAGE", key, "SAMPLES", 0))
                    for key in started.cli("KEYS", "tokenwire:{c0}*")
                )
                everything = int(started.info("memory")["used_memory"]) - empty
                show(
                    what="memory",
                    granularity=granularity,
                    tokens_together=together,
                    bytes_per_response=used,
                    times_the_text=round(used / text, 2),
                    used_memory=everything,
                )
    started.cli("FLUSHALL")
    for number in range(tokens):
        started.cli("XADD", "raw", "*", "e", token(number))
    used = int(started.cli("MEMORY", "USAGE", "raw", "SAMPLES", 0))
    show(what="memory, plain stream", bytes=used, times_the_text=round(used / text, 2))


def main() -> None:
    chosen = sys.argv[1:] or ["commands", "latency", "join", "memory"]
    known = {"commands": count_commands, "latency": latency, "join": join, "memory": memory}
    with server() as started:
        for name in chosen:
            asyncio.run(known[name](started))


if __name__ == "__main__":
    main()
