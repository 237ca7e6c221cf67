"""A chat in FastAPI with login: answers survive a reload, stop in every tab, and are one's own.

    pip install "tokenwire[gateway,openai]" fastapi "uvicorn[standard]"
    python examples/fastapi_chat/server.py

Then open http://127.0.0.1:8000 and sign in as ada (password: lovelace) or alan (turing), in several
tabs and browsers. Without $OPENAI_API_KEY a model on this machine answers, with canned texts.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import BackgroundTasks, Cookie, Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse, JSONResponse
from openai import AsyncOpenAI
from pydantic import BaseModel
from starlette.requests import HTTPConnection

import tokenwire
from tokenwire_adapters.asgi import AccessDenied, Gateway
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.testing.provider import Provider

PASSWORDS = {"ada": "lovelace", "alan": "turing"}  # yours come from a database, as hashes
sessions: dict[str, str] = {}  # from the cookie to the user; yours outlive a restart

sink = tokenwire.open_sink()  # $TOKENWIRE_URL, such as redis://localhost; else in this process
client: AsyncOpenAI


def channel_of(user: str) -> str:
    """The channel with this user's chat."""
    return f"chat:{user}"


def may(connection: HTTPConnection, channel: str, action: str) -> str | bool:
    """Let users watch and stop in their own chat, and nowhere else."""
    user = sessions.get(connection.cookies.get("session", ""))
    if user is None:
        raise AccessDenied("sign in first", status=401)
    if action == "input":  # messages come by `ask`
        return False
    return user if channel == channel_of(user) else False


gateway = Gateway(sink, authorize=may)


async def answer(user: str, text: str) -> None:
    """Answer one message; the wrapped client publishes each token."""
    past = (await sink.ahistory(channel_of(user), limit=20)).items
    messages: list[Any] = []
    for response in reversed(past):
        messages.append({"role": "user", "content": response.metadata["question"]})
        messages.append({"role": "assistant", "content": response.text})
    messages.append({"role": "user", "content": text})
    with tokenwire.channel(channel_of(user), metadata={"user": user, "question": text}):
        stream = await client.chat.completions.create(
            model=os.environ.get("OPENAI_MODEL", "gpt-5-mini"), messages=messages, stream=True
        )
        async for _ in stream:
            pass


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Open the client; close everything at the end."""
    global client
    async with Provider(pace=float(os.environ.get("PACE", "25"))) as provider:
        own = os.environ.get("OPENAI_API_KEY")
        client = AsyncOpenAI() if own else AsyncOpenAI(base_url=provider.base_url, api_key="unused")
        async with wrap(client, sink):
            yield
            await gateway.shutdown()
    await sink.aclose()


app = FastAPI(lifespan=lifespan)
app.mount("/stream", gateway)


class Login(BaseModel):
    """What the login form sends."""

    user: str
    password: str


class Message(BaseModel):
    """What the chat's form sends."""

    text: str


def signed_in(session: Annotated[str, Cookie()] = "") -> str:
    """The user whose cookie came with the request."""
    user = sessions.get(session)
    if user is None:
        raise HTTPException(401, "sign in first")
    return user


@app.post("/login")
async def login(form: Login) -> JSONResponse:
    """Begin a session."""
    password = PASSWORDS.get(form.user, "")
    if not password or not secrets.compare_digest(password.encode(), form.password.encode()):
        raise HTTPException(403, "no such user, or another password")
    session = secrets.token_urlsafe(32)
    sessions[session] = form.user
    reply = JSONResponse({"user": form.user})
    reply.set_cookie("session", session, httponly=True, samesite="lax")  # secure=True with TLS
    return reply


@app.get("/me")
async def me(user: Annotated[str, Depends(signed_in)]) -> dict[str, str]:
    """Who is signed in, and where the chat is."""
    return {"user": user, "channel": channel_of(user)}


@app.post("/messages", status_code=202)
async def ask(
    message: Message, user: Annotated[str, Depends(signed_in)], background: BackgroundTasks
) -> dict[str, str]:
    """Have a message answered, whether or not the one who asked stays."""
    background.add_task(answer, user, message.text)
    return {}


@app.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(Path(__file__).with_name("chat.html"))


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
