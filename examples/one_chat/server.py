"""One agent on pages of seven kinds: plain, React, Vue, useChat, CopilotKit, useStream, Ably.

    pip install "tokenwire[gateway,ag-ui,openai,testing]" uvicorn
    python examples/one_chat/server.py

Then open http://127.0.0.1:8000 and the pages it lists, in as many tabs as you like: tabs show the
same answers as they come, and each can ask and stop. The first three kinds share a conversation;
the others have one each, in the protocol of their client: the AI SDK's, AG-UI, LangChain's, and
Ably's AI Transport on a local server. Without $OPENAI_API_KEY a model on this machine answers,
with canned texts. What others wrote of the pages comes from a CDN.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route

import tokenwire
from tokenwire_adapters.ably import AblyBackend
from tokenwire_adapters.ag_ui import AgentRoutes, AgentTurn
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.langgraph import LangGraphRoutes, LangGraphTurn
from tokenwire_adapters.testing.ably import ServerThread
from tokenwire_adapters.testing.provider import Provider
from tokenwire_adapters.vercel import ChatRoutes, ChatTurn

CHANNEL = "one-chat"
FOLDER = Path(__file__).parent
REACT = FOLDER.parents[1] / "npm" / "src" / "react.js"

sink = tokenwire.open_sink()  # $TOKENWIRE_URL, such as redis://localhost; else in this process


async def reply(response: tokenwire.ResponseWriter, messages: Any) -> None:
    """Answer a conversation: each token is on every page when it comes."""
    stream = await app.state.openai.chat.completions.create(
        model=os.environ.get("OPENAI_MODEL", "gpt-5-mini"), messages=messages, stream=True
    )
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices:
                if choice.delta.content and not response.write(choice.delta.content):
                    return  # somebody pressed Stop


async def answer_turn(turn: ChatTurn | AgentTurn | LangGraphTurn) -> None:
    """Answer a page that speaks a protocol of its own."""
    await reply(turn.response, turn.chat_messages())


async def answer_inputs(sink: tokenwire.Sink, channel: str) -> None:
    """Answer what pages send to a channel."""

    async def answer(text: str, metadata: dict[str, Any]) -> None:
        with sink.respond(channel, metadata=metadata) as response:
            await reply(response, [{"role": "user", "content": text}])

    async with asyncio.TaskGroup() as answers:
        async for question in sink.inputs(channel):
            match question.data:
                case {"text": str(text)}:
                    metadata = {"question": text, "input": question.id}
                    answers.create_task(answer(text, metadata))
                case _:
                    pass


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    """Run the agent beside the gateway; close everything at the end."""
    async with Provider(pace=float(os.environ.get("PACE", "25"))) as provider:
        own = os.environ.get("OPENAI_API_KEY")
        client = AsyncOpenAI() if own else AsyncOpenAI(base_url=provider.base_url, api_key="unused")
        app.state.openai = client
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
                    asyncio.create_task(answer_inputs(sink, CHANNEL)),
                    asyncio.create_task(answer_inputs(on_ably, f"ai:{CHANNEL}")),
                ]
                yield
                for protocol in protocols:
                    await protocol.aclose()
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


# The id of a conversation is also its channel, unless we say otherwise.
protocols = (
    ChatRoutes(sink, answer_turn, channel="usechat-{}".format),
    AgentRoutes(sink, answer_turn, channel="copilotkit-{}".format),
    LangGraphRoutes(sink, answer_turn, channel="usestream-{}".format),
)
PAGES = ("plain", "react", "vue", "usechat", "copilotkit", "usestream", "ably")

app = Starlette(
    routes=[
        *(Route(f"/{name}", page) for name in ("", *PAGES)),
        *(route for protocol in protocols for route in protocol.routes),
        Route("/ably.json", ably),
        Route("/tokenwire/react.js", react),
        Mount("/tokenwire", Gateway(sink)),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
