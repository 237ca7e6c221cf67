"""The same work over Redis with tokenwire and with its peers, from their published packages.

In a virtual environment of its own:

    pip install tokenwire[redis] resumable-stream assistant-stream agno fastapi
    python benchmarks/redis_peers.py [tokens] [watchers]

npm's `resumable-stream` is installed into a cache folder, where there are Node 20 and npm.

One response, as fast as its producer can, to watchers that were there before it began; then one
more watcher that comes when it is over. Every watcher must have the exact text. A watcher reads
through Redis, as if each were in a process of its own, but with tokenwire: there, watchers of one
process share what is read, and that is what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import npm_packages
import redis.asyncio
from redis_common import TOKENS, commands, cpu, server, show, since, text_of, token

from tests.redis_support import RedisServer
from tokenwire import open_sink
from tokenwire_adapters.redis import RedisBackend

Text = Awaitable[str | None]
Start = Callable[[], Awaitable[None]]


class Peer:
    """What is measured: `produce` all tokens; `watch` gives the whole text at its end."""

    name = ""

    def __init__(self, url: str, tokens: int, stack: contextlib.AsyncExitStack) -> None:
        self.url, self.tokens, self.stack = url, tokens, stack

    async def prepare(self) -> None: ...
    async def produce(self) -> None: ...
    async def watch(self) -> Text: ...
    async def late(self) -> str | None:
        return await (await self.watch())

    async def cpu(self) -> float:
        """Processor seconds of the process that produces and watches."""
        return time.process_time()

    async def stream(self) -> AsyncIterator[str]:
        for number in range(self.tokens):
            yield token(number)
            if number % 50 == 0:
                await asyncio.sleep(0)  # a model's tokens come in bursts, at best


class Tokenwire(Peer):
    name = "tokenwire"

    async def prepare(self) -> None:
        self.sink = await self.stack.enter_async_context(open_sink(RedisBackend(self.url)))
        self.reader = await self.stack.enter_async_context(open_sink(RedisBackend(self.url)))

    async def produce(self) -> None:
        async with self.sink.respond("c", response_id="r") as response:
            async for text in self.stream():
                response.write(text)

    async def watch(self) -> Text:
        return text_of(await self.reader.watch("c").aopen())

    async def late(self) -> str | None:
        return await text_of(await self.reader.watch("c", response_id="r").aopen())


class ResumableStream(Peer):
    name = "resumable-stream (PyPI)"

    async def _context(self) -> Any:
        from resumable_stream import create_resumable_stream_context
        from resumable_stream.redis_adapter import RedisPublisher, RedisSubscriber

        publisher, subscriber = RedisPublisher(self.url), RedisSubscriber(self.url)
        await publisher.connect()
        await subscriber.connect()
        self.stack.push_async_callback(publisher.close)
        self.stack.push_async_callback(subscriber.close)
        return create_resumable_stream_context(publisher=publisher, subscriber=subscriber)

    async def prepare(self) -> None:
        self.context = await self._context()
        self.go = asyncio.Event()

        async def held() -> AsyncIterator[str]:
            await self.go.wait()
            async for text in self.stream():
                yield text

        self.produced = await self.context.create_new_resumable_stream("r", held)

    async def produce(self) -> None:
        self.go.set()
        async for _ in self.produced:
            pass

    async def watch(self) -> Text:
        context = await self._context()
        stream = await context.resume_existing_stream("r")
        return self._read(stream)

    async def _read(self, stream: Any) -> str | None:
        if stream is None or isinstance(stream, str):
            return None  # a finished stream cannot be replayed
        return "".join([text async for text in stream])


class NpmResumableStream(Peer):
    """In a process of its own, which takes our commands; see ``redis_peers_npm.mjs``."""

    name = "resumable-stream (npm)"

    async def prepare(self) -> None:
        script = npm_packages.installed("resumable-stream@2.2.13", "redis@5.12.1") / "peer.mjs"
        shutil.copy(Path(__file__).with_name("redis_peers_npm.mjs"), script)
        arguments = ("node", str(script), self.url, str(self.tokens), json.dumps(TOKENS))
        pipe = asyncio.subprocess.PIPE
        self.node = await asyncio.create_subprocess_exec(
            *arguments, stdin=pipe, stdout=pipe, limit=2**26
        )
        self.stack.push_async_callback(self._stop)
        self.produced = asyncio.Event()
        self.turn = asyncio.Lock()
        await self._tell("prepare")

    async def _stop(self) -> None:
        assert self.node.stdin is not None
        self.node.stdin.close()
        await self.node.wait()

    async def _tell(self, *command: object) -> Any:
        assert self.node.stdin is not None
        assert self.node.stdout is not None
        async with self.turn:
            self.node.stdin.write(json.dumps(command).encode() + b"\n")
            line = await self.node.stdout.readline()
        if not line:
            raise RuntimeError("Node ended")
        return json.loads(line)

    async def produce(self) -> None:
        await self._tell("produce")
        self.produced.set()

    async def watch(self) -> Text:
        return self._text(await self._tell("watch"))

    async def _text(self, number: int) -> str | None:
        await self.produced.wait()
        found: str | None = await self._tell("text", number)
        return found

    async def late(self) -> str | None:
        found: str | None = await self._tell("late")
        return found

    async def cpu(self) -> float:
        return float(await self._tell("cpu"))


class AssistantStream(Peer):
    name = "assistant-stream"

    async def prepare(self) -> None:
        from assistant_stream.resumable import (
            create_redis_resumable_stream_store,
            create_resumable_stream_context,
        )

        def context() -> Any:
            client = redis.asyncio.Redis.from_url(self.url)
            self.stack.push_async_callback(client.aclose)
            store = create_redis_resumable_stream_store(client)
            return create_resumable_stream_context(store=store)

        self.make = context
        self.go = asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            await self.go.wait()
            async for text in self.stream():
                yield text.encode()

        self.context = context()
        self.produced = await self.context.run("r", held)

    async def produce(self) -> None:
        self.go.set()
        async for _ in self.produced:
            pass

    async def watch(self) -> Text:
        stream = await self.make().resume("r")
        return self._read(stream)

    async def _read(self, stream: Any) -> str:
        return b"".join([chunk async for chunk in stream]).decode()


class Agno(Peer):
    name = "agno event stream"

    async def prepare(self) -> None:
        from agno.os.event_streams.redis import RedisEventStream
        from agno.run.base import RunStatus

        def events() -> Any:
            client = redis.asyncio.Redis.from_url(self.url, socket_timeout=None)
            self.stack.push_async_callback(client.aclose)
            made = RedisEventStream(client)
            self.stack.push_async_callback(made.aclose)
            return made

        self.make, self.statuses = events, RunStatus
        self.events = events()
        await self.events.register_run("r", RunStatus.running)

    async def produce(self) -> None:
        from agno.run.agent import RunContentEvent

        async for text in self.stream():
            await self.events.add_event("r", RunContentEvent(content=text, run_id="r"))
        await self.events.complete_run("r", self.statuses.completed)

    async def watch(self) -> Text:
        return self._read(self.make())

    async def _read(self, events: Any) -> str:
        parts: list[str] = []
        async for _, sse in events.tail("r"):
            data = [line[6:] for line in sse.splitlines() if line.startswith("data: ")]
            parts += [json.loads(one).get("content") or "" for one in data]
        return "".join(parts)


KINDS = (Tokenwire, ResumableStream, NpmResumableStream, AssistantStream, Agno)


async def measure(
    kind: type[Peer], started: RedisServer, tokens: int, watchers: int
) -> dict[str, Any]:
    """One run of a peer.

    :raises ImportError: where it is not installed.
    """
    started.cli("FLUSHALL")
    expected = "".join(token(number) for number in range(tokens))
    async with contextlib.AsyncExitStack() as stack:
        peer = kind(started.url, tokens, stack)
        await peer.prepare()
        watching = [asyncio.ensure_future(await peer.watch()) for _ in range(watchers)]
        await asyncio.sleep(0.3)  # all of them listen
        connections = int(started.info("clients")["connected_clients"])
        before, used, begun = commands(started), cpu(started), time.perf_counter()
        mine = await peer.cpu()
        async with asyncio.timeout(300):
            await peer.produce()
            texts = await asyncio.gather(*watching)
        seconds = time.perf_counter() - begun
        ran = since(before, commands(started))
        redis_cpu, own_cpu = cpu(started) - used, await peer.cpu() - mine
        memory = sum(
            int(started.cli("MEMORY", "USAGE", key, "SAMPLES", 0))
            for key in started.cli("KEYS", "*")
        )
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(30):
                late = await peer.late()
        except Exception as error:
            late = type(error).__name__
        joined = time.perf_counter() - begun
        inside = ("evalsha", "eval")
        return {
            "what": kind.name,
            "tokens": tokens,
            "watchers": watchers,
            "exact": sum(text == expected for text in texts),
            "tokens_per_s": round(tokens / seconds),
            "commands_per_token": round(sum(ran.values()) / tokens, 2),
            "scripts": sum(ran.get(name, 0) for name in inside),
            "redis_us_per_token": round(redis_cpu / tokens * 1e6, 1),
            "client_us_per_token": round(own_cpu / tokens * 1e6, 1),
            "connections": connections - 1,
            "bytes_left_in_redis": memory,
            "replay_when_over": "exact" if late == expected else f"no ({late!r})"[:60],
            "replay_ms": round(joined * 1000, 1),
        }


def main() -> None:
    logging.disable(logging.WARNING)
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    watchers = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    with server() as started:
        for kind in KINDS:
            try:
                show(**asyncio.run(measure(kind, started, tokens, watchers)))
            except ImportError as error:
                show(what=kind.name, skipped=str(error))


if __name__ == "__main__":
    main()
