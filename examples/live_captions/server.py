"""Live captions: one speaker, any number of viewers; who comes late sees the last half minute.

    pip install "tokenwire[gateway]" "uvicorn[standard]"
    python examples/live_captions/server.py

Then open http://127.0.0.1:8000 in several tabs, some of them later. A transcriber (Whisper,
Deepgram, a stenographer) stands where `speech` is; here it reads a text aloud, word by word.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

import tokenwire
from tokenwire_adapters.asgi import Gateway

CHANNEL = "captions"
TALK = (
    "Good evening, and welcome.",
    "Tonight we speak about rivers: where they begin, and why they bend.",
    "A river that runs straight for more than ten times its width is a rare thing.",
)
WORDS_A_SECOND = float(os.environ.get("PACE", "3"))

sink = tokenwire.open_sink()  # $TOKENWIRE_URL, such as redis://localhost; else in this process


async def speech() -> AsyncIterator[tuple[str, str]]:
    """Give out who speaks and a word, as they are recognised; each sentence ends with a dot."""
    while True:
        for number, sentence in enumerate(TALK):
            for word in sentence.split():
                await asyncio.sleep(1 / WORDS_A_SECOND)
                yield ("Moderator", "Speaker")[number > 0], word


async def caption() -> None:
    """Publish what is said: a sentence is a response, so that viewers get whole ones."""
    sentence: tokenwire.ResponseWriter | None = None
    async for speaker, word in speech():
        if sentence is None:
            sentence = sink.respond(CHANNEL, metadata={"speaker": speaker})
        sentence.write(f"{word} ")
        if word.endswith("."):
            sentence.finish()
            sentence = None


def watch_only(_connection: object, channel: str, action: str) -> bool:
    """Everybody may watch the captions, and nobody may stop or send anything."""
    return channel == CHANNEL and action == "subscribe"


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    """Caption while the server runs."""
    captioning = asyncio.create_task(caption())
    yield
    captioning.cancel()
    await asyncio.gather(captioning, return_exceptions=True)
    await gateway.shutdown()
    await sink.aclose()


async def page(_: Request) -> FileResponse:
    """The page."""
    return FileResponse(Path(__file__).with_name("captions.html"))


gateway = Gateway(sink, authorize=watch_only)
app = Starlette(routes=[Route("/", page), Mount("/stream", gateway)], lifespan=lifespan)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
