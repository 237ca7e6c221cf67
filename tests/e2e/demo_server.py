"""The demo as `tokenwire demo` serves it, on a thread; its server can be stopped and started."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

import uvicorn
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

import tokenwire
from tests.support.ports import ReservedPort
from tokenwire_adapters._tools.cli.server import config
from tokenwire_adapters._tools.demo.app import Demo
from tokenwire_adapters._tools.demo.wiring import publish
from tokenwire_adapters.testing.provider import MODELS, Provider, RequestRecord, serve_in_thread

PATIENCE = 60.0
T = TypeVar("T")


class DemoServer:
    """A sink, a provider, an agent, and a web server that can be stopped and started.

    The agent and the provider go on without the server, as in separate processes.
    """

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo", daemon=True)
        self._provider_thread = serve_in_thread(pace=100)
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._demos: list[Demo] = []
        self._reserved = ReservedPort()  # nobody else gets it while the server is down
        self.sink = tokenwire.open_sink(url, strict=True)
        self.provider: Provider

    def __enter__(self) -> Self:
        self.provider = self._provider_thread.__enter__()
        self._thread.start()
        self._run(self._connect())
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
        self.sink.close()
        self._provider_thread.__exit__(None, None, None)
        self._reserved.release()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._reserved.number

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._reserved.number}/"

    def start(self) -> None:
        """Serve, on the same port as before."""
        self._run(self._start())

    def stop(self) -> None:
        """Stop serving: open streams are asked to reconnect."""
        self._run(self._stop())

    def replies(self) -> int:
        """How many replies the provider has begun."""
        return len(self.provider.records)

    def reply(self, before: int) -> RequestRecord:
        """The first reply that began after there were `before`."""
        self.provider.wait_for_replies(before + 1, PATIENCE)
        return self.provider.records[before]

    async def _connect(self) -> None:
        http = DefaultAsyncHttpxClient(trust_env=False)
        self._client = publish(
            AsyncOpenAI(base_url=self.provider.base_url, api_key="unused", http_client=http),
            self.sink,
        )

    async def _start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self.address)
        demo = Demo(self.sink, self._client, models=MODELS, provider=self.provider)
        self._demos.append(demo)
        server = uvicorn.Server(config(demo.app, log_level="warning", timeout_graceful_shutdown=1))
        self._server = server
        self._serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)

    async def _stop(self) -> None:
        if self._server is None or self._serving is None:
            return
        await self._demos[-1].gateway.shutdown(1.0)
        self._server.should_exit = True
        await self._serving
        self._server = self._serving = None

    async def _end(self) -> None:
        for demo in self._demos:
            await demo.aclose()
        await self._client.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)
