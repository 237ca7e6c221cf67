"""Runs the demo: the local provider, the agent's app and a browser; or one exchange."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tokenwire
from tokenwire_adapters._tools.demo.agent import ChatAgent
from tokenwire_adapters.testing.provider import MODELS, Provider, serve_in_thread

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Options", "once", "serve"]


@dataclass(frozen=True)
class Options:
    """Options of ``tokenwire demo``.

    :ivar url: the backend; by default a memory of this process.
    :ivar model: talk to OpenAI's API, with this model; None for the local provider.
    :ivar pace: tokens per second of the local provider.
    """

    url: str = "memory://"
    host: str = "127.0.0.1"
    port: int = 8765
    model: str | None = None
    pace: float = 45.0
    browser: bool = True


@contextmanager
def _provider(options: Options) -> Generator[Provider | None]:
    if options.model is not None:
        yield None
        return
    with serve_in_thread(pace=options.pace) as provider:
        yield provider


def _client(sink: tokenwire.Sink, provider: Provider | None) -> AsyncOpenAI:
    """A client of OpenAI's SDK whose streams are published."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    from tokenwire_adapters._tools.demo.wiring import publish

    if provider is None:
        client = AsyncOpenAI()
    else:
        # This process reaches itself without a proxy.
        http = DefaultAsyncHttpxClient(trust_env=False)
        client = AsyncOpenAI(base_url=provider.base_url, api_key="not-needed", http_client=http)
    return publish(client, sink)


def serve(options: Options) -> int:
    """Serve the page until interrupted; return an exit status."""
    import uvicorn

    from tokenwire_adapters._tools.cli.server import bound_socket, config
    from tokenwire_adapters._tools.demo.app import Demo

    with bound_socket(options.host, options.port, fall_back=True) as listener:
        address = f"http://{options.host}:{listener.getsockname()[1]}/"
        with _provider(options) as provider, tokenwire.open_sink(options.url) as sink:
            models = MODELS if options.model is None else (options.model,)
            demo = Demo(sink, _client(sink, provider), models=models, provider=provider)

            class Server(uvicorn.Server):
                async def startup(self, sockets: Any = None) -> None:
                    await super().startup(sockets)
                    # Only now: before, Ctrl-C would end the start in the middle.
                    _announce(address, options, provider)
                    if options.browser:
                        _open_browser(address)

            server = Server(config(demo.app, log_level="warning"))
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(_run(server, demo, listener))
    return 0


async def _run(server: Any, demo: Any, listener: Any) -> None:
    try:
        await server.serve(sockets=[listener])
    finally:
        await demo.aclose()


def _announce(address: str, options: Options, provider: Provider | None) -> None:
    """Say what there is to see, in lines that fit into 80 columns."""
    model = f"{provider.base_url} on this machine" if provider else options.model
    lines = [
        f"tokenwire demo: {address}",
        "  One agent, two devices. Pick a question, cut a device off, reload, press Stop.",
        f"  agent: OpenAI's SDK, talking to {model}",
        f"  backend: {options.url.partition('://')[0]}://",
        f"  In a terminal: tokenwire watch {address}stream CHAT",
        "  CHAT is in the page's address, after #. Ctrl-C ends the demo.",
    ]
    if options.port and f":{options.port}/" not in address:
        lines.insert(1, f"  (port {options.port} is in use)")
    print("\n".join(lines), flush=True)


def _open_browser(address: str) -> None:
    """Open the page, off this thread: some openers block until the browser is closed."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform != "linux":
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def once(options: Options, prompt: str) -> int:
    """Ask one question, print the tokens as a watcher sees them; return an exit status."""
    return asyncio.run(_once(options, prompt))


async def _once(options: Options, prompt: str) -> int:
    channel = f"once-{os.getpid()}"
    with _provider(options) as provider:
        async with tokenwire.open_sink(options.url) as sink:
            client = _client(sink, provider)
            agent = ChatAgent(client)
            async with sink.watch(channel) as watch:
                with tokenwire.channel(channel):
                    model = options.model or MODELS[0]
                    task = asyncio.create_task(agent.answer(prompt, model=model))
                text = await _print_response(watch)
            answer = await task
            await client.close()
    return 0 if text == answer.text and answer.text else 1


async def _print_response(watch: tokenwire.Watch) -> str:
    text = ""
    async for event in watch:
        if isinstance(event, tokenwire.DeltaEvent) and event.kind == "text":
            text += event.text
            print(event.text, end="", flush=True)
        elif isinstance(event, tokenwire.EndEvent):
            print()
            if event.error:
                print(event.error, file=sys.stderr)
            break
    return text
