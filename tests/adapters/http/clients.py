"""The ways to read a reply with httpx and httpx2, sync and async, and the listener on them."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tokenwire
from tests.support.replay import PATIENCE, Gate, Replay, Reply
from tests.support.sdk import TLS
from tokenwire import Sink
from tokenwire.instrument import Options, SdkInstrumentor
from tokenwire_adapters import http

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
WHOLE = {**CHAT, "stream": False}


@contextlib.contextmanager
def listening(sink: Sink, *modules: str, **options: Any) -> Iterator[None]:
    """Record what the clients of `modules` receive in this block."""
    instrumentors: list[SdkInstrumentor] = [getattr(http, name) for name in modules]
    for instrumentor in instrumentors:
        instrumentor.start(
            Options(sink, options.get("channel", "c"), on_cancel=options.get("on_cancel"))
        )
    try:
        yield
    finally:
        for instrumentor in instrumentors:
            instrumentor.stop()


def cancel_while_it_reads(
    read: Callable[[str], object], module: str, on_cancel: Any, body: bytes, sink: Sink
) -> None:
    """Cancel a reply of which `read`, given its URL, has had three pieces, and see it end."""
    met: list[BaseException | None] = []

    def consume(url: str) -> None:
        try:
            read(url)
            met.append(None)
        except BaseException as error:
            met.append(error)

    with (
        Replay(Reply(body, gate=Gate(3))) as replay,
        listening(sink, module, on_cancel=on_cancel),
        sink.watch("c") as watch,
    ):
        thread = threading.Thread(target=consume, args=(f"{replay.base_url}/chat/completions",))
        thread.start()
        started = next(watch)
        replay.wait_sent(3)
        assert sink.cancel("c", started.response_id or "").state == "cancelled"
        replay.wait_closed_early()
        thread.join()
    if on_cancel == "raise":
        assert isinstance(met[0], tokenwire.ResponseCancelled)
    else:
        assert met == [None]


class Sync:
    """Reads with a blocking client."""

    is_async = False

    def __init__(self, module: str) -> None:
        self.module = importlib.import_module(module)

    def client(self, **options: Any) -> Any:
        options = {"verify": TLS, "timeout": PATIENCE, **options}
        return self.module.Client(**options)

    def stream(
        self, url: str, body: Any, *, read: str = "iter_raw", limit: int | None = None
    ) -> list[bytes]:
        """Read a reply in pieces; leave after `limit` of them."""
        pieces: list[bytes] = []
        with self.client() as client, client.stream("POST", url, json=body) as response:
            for piece in getattr(response, read)():
                pieces.append(piece)
                if len(pieces) == limit:
                    break
        return pieces

    def post(self, url: str, **options: Any) -> Any:
        """Read a reply whole."""
        with self.client() as client:
            return client.post(url, **options)


class Async(Sync):
    """Reads with an asynchronous client, each time on a loop of its own."""

    is_async = True

    def client(self, **options: Any) -> Any:
        options = {"verify": TLS, "timeout": PATIENCE, **options}
        return self.module.AsyncClient(**options)

    def stream(
        self, url: str, body: Any, *, read: str = "iter_raw", limit: int | None = None
    ) -> list[bytes]:
        async def main() -> list[bytes]:
            pieces: list[bytes] = []
            async with self.client() as client, client.stream("POST", url, json=body) as response:
                async for piece in getattr(response, f"a{read}")():
                    pieces.append(piece)
                    if len(pieces) == limit:
                        break
            return pieces

        return asyncio.run(main())

    def post(self, url: str, **options: Any) -> Any:
        async def main() -> Any:
            async with self.client() as client:
                return await client.post(url, **options)

        return asyncio.run(main())


WAYS = [Sync("httpx"), Async("httpx"), Sync("httpx2"), Async("httpx2")]


def name_of(way: Sync) -> str:
    """A name for the parameters of tests."""
    return f"{way.module.__name__}-{'async' if way.is_async else 'sync'}"
