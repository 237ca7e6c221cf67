"""A page with the AI SDK, and an agent in Python: send, reload, stop, a second tab.

    pip install "tokenwire[gateway,openai]" fastapi uvicorn
    python examples/vercel_chat.py

Then open http://127.0.0.1:8000 in two tabs. Without $OPENAI_API_KEY a model on this machine
answers, with canned texts. The page is examples/vercel_chat.html; any page with ``useChat`` works
alike.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse
from openai import AsyncOpenAI

import tokenwire
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import Provider
from tokenwire_adapters.vercel import ChatRoutes, ChatTurn

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, now.",
            "strict": True,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]


async def get_weather(city: str) -> dict[str, Any]:
    """Invented weather."""
    await asyncio.sleep(0.5)
    return {"city": city, "sky": "clear", "celsius": 21}


async def agent(turn: ChatTurn) -> None:
    """Answer one message. It need not care about streaming: the wrapped client does that."""
    messages: Any = turn.chat_messages()
    weather = "weather" in turn.text.lower()
    for _ in range(5):
        extra: Any = {"tools": TOOLS} if weather else {}
        async with client.chat.completions.stream(
            model=os.environ.get("OPENAI_MODEL", "gpt-5-mini"), messages=messages, **extra
        ) as stream:
            completion = await stream.get_final_completion()
        message = completion.choices[0].message
        if not message.tool_calls:
            return
        messages.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
        for call in message.tool_calls:
            result = await get_weather(**json.loads(call.function.arguments))
            turn.tool_result(call.id, result)
            messages.append(
                {"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)}
            )


sink = tokenwire.open_sink()  # $TOKENWIRE_URL, such as redis://localhost; else in this process
chat = ChatRoutes(sink, agent)
client: AsyncOpenAI


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Open the client; close everything at the end."""
    global client
    async with Provider(pace=float(os.environ.get("PACE", "25"))) as provider:
        if os.environ.get("OPENAI_API_KEY"):
            client = wrap(AsyncOpenAI(), sink)
        else:
            client = wrap(AsyncOpenAI(base_url=provider.base_url, api_key="unused"), sink)
        async with client:
            yield
            await chat.aclose()
    await sink.aclose()


app = FastAPI(lifespan=lifespan)
app.router.routes.extend(chat.routes)


@app.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(Path(__file__).with_suffix(".html"))


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
