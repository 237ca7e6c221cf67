"""A reply that was cut off reaches pages as a failure, in every UI protocol, with its text."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import serving
from tests.adapters.ui.pages import PATIENCE
from tests.support.replay import Replay, Reply
from tests.support.sse import body
from tokenwire_adapters.ag_ui import AgentRoutes
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.vercel import ChatRoutes

CUT_OFF = "the stream ended before the reply was complete"


def _chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


HALF = body(_chunk("The dose "), _chunk("is 10"))
WHOLE = body(_chunk("The dose "), _chunk("is 10"), _chunk("", "stop"))


class Agent:
    """Relays one reply, as users write it: nothing in it looks for the end of the reply."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay

    async def __call__(self, turn: Any) -> None:
        async with openai.AsyncOpenAI(
            base_url=self._replay.base_url, api_key="unused", max_retries=0
        ) as client:
            stream = await wrap(client, turn.sink).chat.completions.create(
                model="m", messages=turn.chat_messages(), stream=True
            )
            async for _ in stream:
                pass


def _payloads(received: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in received.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


async def _post(sink: tokenwire.Sink, routes: Any, path: str, request: Any) -> list[dict[str, Any]]:
    with serving(Starlette(routes=routes.routes)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            answer = await client.post(path, json=request)
    assert answer.status_code == 200, answer.text
    return _payloads(answer.content)


@pytest.mark.parametrize(("served", "is_cut"), [(HALF, True), (WHOLE, False)])
async def test_in_the_stream_of_use_chat(sink: tokenwire.Sink, served: bytes, is_cut: bool) -> None:
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "How much?"}]}
    request = {"id": "c1", "messages": [message], "trigger": "submit-message"}
    with Replay(Reply(served)) as replay:
        chunks = await _post(sink, ChatRoutes(sink, Agent(replay)), "/api/chat", request)
    text = "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")
    assert text == "The dose is 10"
    errors = [chunk["errorText"] for chunk in chunks if chunk["type"] == "error"]
    if is_cut:
        assert errors == [CUT_OFF]
    else:
        assert not errors
        assert chunks[-1]["finishReason"] == "stop"


@pytest.mark.parametrize(("served", "is_cut"), [(HALF, True), (WHOLE, False)])
async def test_in_the_stream_of_ag_ui(sink: tokenwire.Sink, served: bytes, is_cut: bool) -> None:
    request = {
        "threadId": "c1",
        "runId": "r1",
        "state": {},
        "messages": [{"id": "u1", "role": "user", "content": "How much?"}],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }
    with Replay(Reply(served)) as replay:
        routes = AgentRoutes(sink, Agent(replay))
        events = await _post(sink, routes, "/agent", request)
    text = "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")
    assert text == "The dose is 10"
    errors = [event["message"] for event in events if event["type"] == "RUN_ERROR"]
    assert errors == ([CUT_OFF] if is_cut else [])
    assert (events[-1]["type"] == "RUN_FINISHED") is not is_cut


class Apologising(Agent):
    """Looks for the end of the reply itself, and says so on the page."""

    async def __call__(self, turn: Any) -> None:
        await super().__call__(turn)
        turn.response.write("That was not all; ask again.")


async def test_an_agent_that_says_it_itself(sink: tokenwire.Sink) -> None:
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "How much?"}]}
    request = {"id": "c1", "messages": [message], "trigger": "submit-message"}
    with Replay(Reply(HALF)) as replay:
        routes = ChatRoutes(sink, Apologising(replay))
        chunks = await _post(sink, routes, "/api/chat", request)
    assert not [chunk for chunk in chunks if chunk["type"] == "error"]
    assert chunks[-1]["finishReason"] == "stop"


async def test_an_agent_that_asks_again(sink: tokenwire.Sink) -> None:
    class Again(Agent):
        async def __call__(self, turn: Any) -> None:
            await super().__call__(turn)
            await super().__call__(turn)

    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "How much?"}]}
    request = {"id": "c1", "messages": [message], "trigger": "submit-message"}
    with Replay(Reply(HALF), Reply(WHOLE)) as replay:
        chunks = await _post(sink, ChatRoutes(sink, Again(replay)), "/api/chat", request)
    assert not [chunk for chunk in chunks if chunk["type"] == "error"]


@pytest.mark.parametrize(("served", "is_cut"), [(HALF, True), (WHOLE, False)])
async def test_for_a_page_that_comes_later(
    sink: tokenwire.Sink, served: bytes, is_cut: bool
) -> None:
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "How much?"}]}
    request = {"id": "c1", "messages": [message], "trigger": "submit-message"}
    with Replay(Reply(served)) as replay:
        routes = ChatRoutes(sink, Agent(replay))
        await _post(sink, routes, "/api/chat", request)
        with serving(Starlette(routes=routes.routes)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                answer = await client.get("/api/chat/c1/messages")
    history = sink.history("c1").items
    reply = next(item for item in history if item.text == "The dose is 10")
    assert (reply.state, reply.error) == (("failed", CUT_OFF) if is_cut else ("complete", None))
    shown = answer.json()[-1]
    assert shown["metadata"]["state"] == ("failed" if is_cut else "complete")
