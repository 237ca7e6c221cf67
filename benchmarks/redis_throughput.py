"""Tokens a second into Redis: tokenwire, a bare redis-py pipeline, and redis-benchmark.

python benchmarks/redis_throughput.py [tokens]

All on the same server, one after the other; look at the ratios. tokenwire does more for each token
than the others: fencing, text for late joiners, pub/sub, exactly once.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import threading

import redis.asyncio
from redis_common import commands, cpu, server, show, since, timed, token

from tests.redis_support import RedisServer
from tokenwire import open_sink


def tokenwire(started: RedisServer, tokens: int, responses: int) -> None:
    """`responses` agents write at once, as fast as they can, each in a thread of its own."""
    with open_sink(started.url) as sink:
        with sink.respond("warm") as response:
            response.write("up")
        sink.flush(10)
        before, used = commands(started), cpu(started)
        each = tokens // responses

        def agent(number: int) -> None:
            with sink.respond(f"c{number}", response_id="r") as response:
                for index in range(each):
                    response.write(token(index))

        with timed() as taken:
            threads = [threading.Thread(target=agent, args=(n,)) for n in range(responses)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sink.flush(600)
        ran = since(before, commands(started))
        text = "".join(token(index) for index in range(each))
        assert sink.history(f"c{responses - 1}").items[0].text == text
        show(
            what=f"tokenwire, {responses} responses",
            tokens_per_s=round(tokens / taken[0]),
            commands_per_token=round(sum(ran.values()) / tokens, 4),
            round_trips=ran.get("evalsha", 0),
            redis_cpu_us_per_token=round((cpu(started) - used) / tokens * 1e6, 2),
        )


async def bare(started: RedisServer, tokens: int, together: int) -> None:
    """XADD for each token, so many in one pipeline, and nothing else."""
    client = redis.asyncio.Redis.from_url(started.url)
    used = cpu(started)
    with timed() as taken:
        for begin in range(0, tokens, together):
            pipeline = client.pipeline(transaction=False)
            for index in range(begin, min(tokens, begin + together)):
                pipeline.xadd("bare", {"e": token(index)})
            await pipeline.execute()
    await client.aclose()
    show(
        what=f"redis-py pipeline of {together} XADD",
        tokens_per_s=round(tokens / taken[0]),
        redis_cpu_us_per_token=round((cpu(started) - used) / tokens * 1e6, 2),
    )


def benchmark(started: RedisServer, tokens: int, together: int) -> None:
    """redis-benchmark, in C, with pipelined XADD."""
    program = shutil.which("redis-benchmark")
    if program is None:
        return
    command = [program, "-p", str(started.port), "-n", str(tokens), "-P", str(together), "-c", "1"]
    said = subprocess.run(
        [*command, "-q", "XADD", "plain", "*", "e", " tokens"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.findall(r"([\d.]+) requests per second", said)
    show(what=f"redis-benchmark -P {together} XADD", tokens_per_s=round(float(found[-1])))


def main() -> None:
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with server() as started:
        for together in (1, 16, 64):
            count = tokens if together > 1 else tokens // 10
            started.cli("FLUSHALL")
            benchmark(started, count, together)
        for together in (1, 16, 64):
            count = tokens // 4 if together > 1 else tokens // 40
            started.cli("FLUSHALL")
            asyncio.run(bare(started, count, together))
        for responses in (1, 10, 100, 500):
            started.cli("FLUSHALL")
            tokenwire(started, tokens, responses)


if __name__ == "__main__":
    main()
