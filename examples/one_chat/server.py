"""One agent on pages of several kinds: plain, React, Vue, Ably's AI Transport.

    pip install "tokenwire[gateway,openai,testing]" uvicorn
    python examples/one_chat/server.py

Then open http://127.0.0.1:8000 and the pages it lists, in as many tabs as you like: all show the
same answers as they come, and each can ask and stop. The page with Ably has a conversation of its
own, on a local server that speaks Ably's protocol. Without $OPENAI_API_KEY a model on this
machine answers, with canned texts. React, Vue and Ably's client come from a CDN.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route

import tokenwire
from tokenwire_adapters.ably import AblyBackend
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.testing.ably import ServerThread
from tokenwire_adapters.testing.provider import Provider

CHANNEL = "one-chat"
FOLDER = Path(__file__).parent
REACT = FOLDER.parents[1] / "npm" / "src" / "react.js"

sink = tokenwire.open_sink()  # $TOKENWIRE_URL, such as redis://localhost; else in this process


async def answer(client: AsyncOpenAI, response: tokenwire.ResponseWriter, text: str) -> None:
    """Answer one message: each token is on every page when it comes."""
    with response:
        stream = await client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL", "gpt-5-mini"),
            messages=[{"role": "user", "content": text}],
            stream=True,
        )
        async with stream:
            async for chunk in stream:
                for choice in chunk.choices:
                    if choice.delta.content and not response.write(choice.delta.content):
                        return  # somebody pressed Stop


async def agent(client: AsyncOpenAI, sink: tokenwire.Sink, channel: str) -> None:
    """Answer what any page sends."""
    async with asyncio.TaskGroup() as answers:
        async for question in sink.inputs(channel):
            match question.data:
                case {"text": str(text)}:
                    about = {"question": text, "input": question.id}
                    response = sink.respond(channel, metadata=about)
                    answers.create_task(answer(client, response, text))
                case _:
                    pass


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    """Run the agent beside the gateway; close everything at the end."""
    async with Provider(pace=float(os.environ.get("PACE", "25"))) as provider:
        own = os.environ.get("OPENAI_API_KEY")
        client = AsyncOpenAI() if own else AsyncOpenAI(base_url=provider.base_url, api_key="unused")
        with ServerThread() as ably:
            server = ably.server
            app.state.ably = {"port": server.port, "auth": server.control_port}
            on_ably = tokenwire.open_sink(
                AblyBackend(
                    endpoint="127.0.0.1",
                    port=server.port,
                    tls=False,
                    token=server.token("agent"),
                    dialect="ai-transport",
                )
            )
            async with client, on_ably:
                agents = [
                    asyncio.create_task(agent(client, sink, CHANNEL)),
                    asyncio.create_task(agent(client, on_ably, f"ai:{CHANNEL}")),
                ]
                yield
                for running in agents:
                    running.cancel()
                await asyncio.gather(*agents, return_exceptions=True)
    await sink.aclose()


async def page(request: Request) -> FileResponse:
    """One of the pages."""
    return FileResponse(FOLDER / f"{request.url.path.strip('/') or 'index'}.html")


async def react(_: Request) -> FileResponse:
    """`tokenwire/react`, which projects with a build step take from npm."""
    return FileResponse(REACT, media_type="text/javascript")


async def ably(request: Request) -> JSONResponse:
    """Where the local Ably is."""
    return JSONResponse(request.app.state.ably)


app = Starlette(
    routes=[
        *(Route(path, page) for path in ("/", "/plain", "/react", "/vue", "/ably")),
        Route("/ably.json", ably),
        Route("/tokenwire/react.js", react),
        Mount("/tokenwire", Gateway(sink)),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
