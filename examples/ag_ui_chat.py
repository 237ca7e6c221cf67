"""An agent for clients of AG-UI 1.0.

    pip install "tokenwire[ag-ui,openai]" uvicorn
    python examples/ag_ui_chat.py

Without $OPENAI_API_KEY a model on this machine answers, with canned texts. A client (npm install
@ag-ui/client) is examples/ag_ui_client.mjs; CopilotKit takes the same URL.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from openai import AsyncOpenAI
from starlette.applications import Starlette

import tokenwire
from tokenwire_adapters.ag_ui import AgentRoutes, AgentTurn
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import Provider


async def agent(turn: AgentTurn) -> None:
    """Answer one message. It need not care about streaming: the wrapped client does that."""
    messages: Any = turn.chat_messages()
    turn.state({"messages": len(messages)})
    async with client.chat.completions.stream(
        model=os.environ.get("OPENAI_MODEL", "gpt-5-mini"), messages=messages
    ) as stream:
        await stream.until_done()


sink = tokenwire.open_sink()  # $TOKENWIRE_URL, such as redis://localhost; else in this process
routes = AgentRoutes(sink, agent)
client: AsyncOpenAI


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    """Open the client; close everything at the end."""
    global client
    async with Provider(pace=float(os.environ.get("PACE", "25"))) as provider:
        if os.environ.get("OPENAI_API_KEY"):
            client = wrap(AsyncOpenAI(), sink)
        else:
            client = wrap(AsyncOpenAI(base_url=provider.base_url, api_key="unused"), sink)
        async with client:
            yield
            await routes.aclose()
    await sink.aclose()


app = Starlette(routes=routes.routes, lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
