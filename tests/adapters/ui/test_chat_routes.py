"""The routes of a chat: who may, what is refused, and what several servers share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import Gate
from tests.adapters.ui.pages import PATIENCE
from tests.adapters.ui.vercel_checker import VercelMessage
from tokenwire import background
from tokenwire.encoding import Frame
from tokenwire.memory import MemoryStore
from tokenwire.testing import FaultyBackend
from tokenwire_adapters.asgi import AccessDenied
from tokenwire_adapters.vercel import ChatRoutes, ChatTurn


class Slow:
    """Says a word, and the rest when it is let."""

    def __init__(self) -> None:
        self.go = Gate()
        self.turns: list[ChatTurn] = []
        self.stopped = 0

    async def __call__(self, turn: ChatTurn) -> None:
        self.turns.append(turn)
        turn.response.write("one")
        try:
            await self.go.wait()
        except BaseException:
            self.stopped += 1
            raise
        turn.response.write(" two")


@pytest.fixture
def agent() -> Slow:
    return Slow()


@pytest.fixture
def server(sink: tokenwire.Sink, agent: Slow) -> Iterator[Server]:
    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        yield client


def ask(text: str = "hm?", *, chat: str = "c1", name: str = "u1", **more: Any) -> dict[str, Any]:
    message = {"id": name, "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat, "messages": [message], "trigger": "submit-message", **more}


def read(body: bytes) -> VercelMessage:
    frames = [
        Frame(line.removeprefix(b"data: ")) for line in body.split(b"\n") if line[:5] == b"data:"
    ]
    return VercelMessage().read(frames)


def text_of(message: VercelMessage) -> str:
    return "".join(part["text"] for part in message.parts if part["type"] == "text")


async def until_it_says(sink: tokenwire.Sink, text: str) -> None:
    with anyio.fail_after(PATIENCE):
        async for event in sink.watch("c1", rewind="all"):
            if isinstance(event, tokenwire.DeltaEvent) and event.text == text:
                return
            if isinstance(event, tokenwire.SnapshotEvent) and text in event.response.text:
                return


async def test_a_page_that_leaves_stops_nothing(client, sink, agent):
    async with client.stream("POST", "/api/chat", json=ask()) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for _ in response.aiter_bytes():
            break
    await until_it_says(sink, "one")
    async with client.stream("GET", "/api/chat/c1/stream") as response:
        agent.go.set()
        message = read(await response.aread())
    assert text_of(message) == "one two"
    assert agent.stopped == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"messages": []}, 422, "invalid"),
        ({"id": "c1"}, 422, "invalid"),
        ({"id": "c1", "messages": []}, 422, "invalid"),
        ({"id": "c1", "messages": ["hi"]}, 422, "invalid"),
        ({"id": "c1", "messages": [{"role": "user", "parts": "hi"}]}, 422, "invalid"),
        ({"id": "c1", "messages": [{"role": "root", "parts": []}]}, 422, "invalid"),
        (ask(chat=""), 400, "bad_name"),
        (ask(chat="a\nb"), 400, "bad_name"),
        ([], 422, "invalid"),
    ],
)
async def test_what_is_no_message(client, body, status, code):
    answer = await client.post("/api/chat", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_other_requests_are_refused(client):
    form = await client.post("/api/chat", content=json.dumps(ask()))
    assert form.status_code == 415
    assert (await client.get("/api/chat")).status_code == 405
    assert (await client.get("/api/chat/c1/elsewhere")).status_code == 404
    assert (await client.get("/api/chat/c1")).status_code == 404
    other = await client.post("/api/chat", json=ask(), headers={"origin": "https://evil.example"})
    assert other.status_code == 403
    assert (await client.post("/api/chat", content=b"x" * (5 * 2**20))).status_code == 413


async def test_who_may(sink, agent):
    async def authorize(connection: Any, channel: str, action: str) -> str:
        if connection.headers.get("x-user") != channel.partition(":")[2]:
            raise AccessDenied("not yours")
        return str(connection.headers["x-user"])

    chat = ChatRoutes(
        sink,
        agent,
        authorize=authorize,
        channel=lambda name: f"chat:{name}",
        allow_origins=["https://app.example"],
    )
    agent.go.set()
    with serving(Starlette(routes=chat.routes)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            mine = {"x-user": "c1", "origin": "https://app.example"}
            answer = await client.post("/api/chat", json=ask(), headers=mine)
            assert text_of(read(answer.content)) == "one two"
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            for method, path in (
                ("POST", "/api/chat"),
                ("GET", "/api/chat/c1/stream"),
                ("GET", "/api/chat/c1/messages"),
                ("POST", "/api/chat/c1/stop"),
            ):
                body = ask() if path == "/api/chat" else {}
                reported = await client.request(method, path, json=body, headers={"x-user": "c2"})
                assert reported.status_code == 403, path
                assert reported.json()["detail"] == "not yours"
    assert agent.turns[0].principal == "c1"
    assert agent.turns[0].channel == "chat:c1"


async def test_the_same_message_again_is_the_same_turn(client, sink, agent):
    async with client.stream("POST", "/api/chat", json=ask()) as first:
        await until_it_says(sink, "one")
        async with client.stream("POST", "/api/chat", json=ask()) as second:
            agent.go.set()
            messages = [read(await first.aread()), read(await second.aread())]
    assert len(agent.turns) == 1
    assert messages[0].parts == messages[1].parts


async def test_a_busy_chat_may_refuse(sink, agent):
    with serving(Starlette(routes=ChatRoutes(sink, agent, busy="refuse").routes)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with client.stream("POST", "/api/chat", json=ask()) as first:
                await until_it_says(sink, "one")
                other = await client.post("/api/chat", json=ask(name="u2"))
                assert other.status_code == 409
                assert other.headers["content-type"] == "text/plain; charset=utf-8"
                assert other.text.startswith("An answer is still being written in this chat.")
                for_programs = {"accept": "application/problem+json"}
                other = await client.post("/api/chat", json=ask(name="u2"), headers=for_programs)
                assert other.status_code == 409
                assert (other.json()["title"], other.json()["code"]) == ("Conflict", "busy")
                agent.go.set()
                assert text_of(read(await first.aread())) == "one two"


async def test_a_stop_for_another_run_stops_nothing(client, sink, agent):
    async with client.stream("POST", "/api/chat", json=ask()) as first:
        await until_it_says(sink, "one")
        stop = await client.post("/api/chat/c1/stop", json={"activeStreamId": "another"})
        assert stop.json() == {"success": True, "run": None, "state": None}
        agent.go.set()
        assert text_of(read(await first.aread())) == "one two"


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "answer under way"])
async def test_a_stop_before_the_answer_has_begun(busy):
    """It comes right after the message, while the server still looks at what is under way."""
    agent, backend = Slow(), FaultyBackend(tokenwire.MemoryBackend(MemoryStore()))
    with tokenwire.open_sink(backend) as sink:
        routes = ChatRoutes(sink, agent)
        with serving(Starlette(routes=routes.routes)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                replies: list[httpx.Response] = []
                stops: list[httpx.Response] = []

                async def post(name: str) -> None:
                    replies.append(await client.post("/api/chat", json=ask(name=name)))

                async def stop() -> None:
                    stops.append(await client.post("/api/chat/c1/stop"))

                async with anyio.create_task_group() as group:
                    if busy:
                        group.start_soon(post, "u1")
                        await until_it_says(sink, "one")
                        with anyio.fail_after(PATIENCE):
                            while routes.tasks._unseen:  # its backend shows the first one
                                await anyio.sleep(0.01)
                    background.call_soon(sink, backend.stall)
                    group.start_soon(post, "u2")
                    with anyio.fail_after(PATIENCE):
                        while not routes.tasks._unseen:
                            await anyio.sleep(0.01)
                    group.start_soon(stop)
                    await anyio.sleep(0.1)  # time in which it would be answered
                    background.call_soon(sink, backend.unstall)
    assert [reply.json()["success"] for reply in stops] == [True]
    assert stops[0].json()["run"] is not None
    assert [read(reply.content).over for reply in replies] == ["abort"] * len(replies)
    assert agent.stopped == len(agent.turns)


async def test_servers_share_chats():
    """A page is told by one server what an agent on another does, and can stop it from there."""
    store = MemoryStore()
    agent = Slow()
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend(store)) as near,
        tokenwire.open_sink(tokenwire.MemoryBackend(store)) as far,
        serving(Starlette(routes=ChatRoutes(near, agent).routes)) as here,
        serving(Starlette(routes=ChatRoutes(far, agent).routes)) as there,
    ):
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            async with client.stream("POST", f"{here.url}/api/chat", json=ask()) as first:
                await until_it_says(far, "one")
                async with client.stream("GET", f"{there.url}/api/chat/c1/stream") as second:
                    stop = await client.post(f"{there.url}/api/chat/c1/stop")
                    assert stop.json()["state"] == "cancelled"
                    messages = [read(await first.aread()), read(await second.aread())]
    assert agent.stopped == 1
    for message in messages:
        assert message.over == "abort"
        assert text_of(message) == "one"


async def test_a_server_that_dies_ends_its_turns():
    """Pages learn it from another server, though nobody says goodbye."""
    store = MemoryStore()
    agent = Slow()
    backend = FaultyBackend(tokenwire.MemoryBackend(store))
    dying = tokenwire.open_sink(backend, lease=0.5, close_timeout=0.05)
    with (
        tokenwire.open_sink(tokenwire.MemoryBackend(store), lease=0.5) as sink,
        serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server,
    ):
        dying.respond("c1", response_id="run-1", run="run-1", metadata={"tokenwire.run": True})
        assert dying.flush(PATIENCE)  # its own time for that is short
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with client.stream("GET", "/api/chat/c1/stream") as stream:
                backend.kill()
                message = read(await stream.aread())
    dying.close()
    assert message.error
    assert message.metadata["state"] == "abandoned"


@pytest.mark.parametrize("kind", ["fastapi", "mount", "alone"])
async def test_where_the_routes_may_live(sink, agent, kind):
    agent.go.set()
    chat = ChatRoutes(sink, agent, resume_ended=0)
    app: Any
    if kind == "fastapi":
        app = FastAPI()
        app.router.routes.extend(chat.routes)
    elif kind == "mount":
        app = Starlette(routes=[Mount("/api/chat", chat)])
    else:
        app = chat
    with serving(app) as server:
        async with httpx.AsyncClient(
            base_url=server.url, timeout=PATIENCE, follow_redirects=True
        ) as client:
            answer = await client.post("/api/chat", json=ask(chat="a/b c"))
            assert text_of(read(answer.content)) == "one two"
            saved = (await client.get("/api/chat/a%2Fb%20c/messages")).json()
            assert [each["role"] for each in saved] == ["user", "assistant"]
            assert (await client.get("/api/chat/a%2Fb%20c/stream")).status_code == 204


async def test_closing_stops_the_agents_here(sink, agent):
    chat = ChatRoutes(sink, agent)
    with serving(Starlette(routes=chat.routes)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with client.stream("POST", "/api/chat", json=ask()) as response:
                await until_it_says(sink, "one")
                await client.post("/api/chat/c1/stop")
                assert text_of(read(await response.aread())) == "one"
    assert agent.stopped == 1
    (response,) = (await sink.ahistory("c1")).items
    assert response.state == "cancelled"


def test_arguments_that_cannot_be(sink, agent):
    for wrong in ({"path": "api"}, {"path": "/api/"}, {"busy": "wait"}):
        with pytest.raises(ValueError):
            ChatRoutes(sink, agent, **wrong)
    with pytest.raises(ValueError):
        ChatRoutes("memory://", agent)
    with pytest.raises(ValueError):
        ChatRoutes(sink, None)
