"""Unmodified pages of the AI SDK, old and new, on Python agents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import REPORT, Agent, Gate, tell_slowly
from tests.adapters.ui.pages import PATIENCE, text_of
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.vercel import ChatRoutes, ChatTurn

pytestmark = pytest.mark.slow

LONG = "tell me a long story"


@pytest.fixture
def chat(sink: tokenwire.Sink, agent: Agent) -> ChatRoutes:
    return ChatRoutes(sink, agent)


@pytest.fixture
def server(chat: ChatRoutes) -> Iterator[Server]:
    app = Starlette(routes=chat.routes)
    app.mount("/tokenwire", Gateway(chat.sink))
    with serving(app) as server:
        yield server


def kinds(message: dict[str, Any]) -> list[str]:
    return [part["type"] for part in message["parts"]]


async def the_response(sink: tokenwire.Sink, *, ended: bool = True) -> tokenwire.Response:
    """The newest response that a model wrote."""
    with anyio.fail_after(PATIENCE):
        while True:
            for each in (await sink.ahistory("c1")).items:
                if each.parts and each.ended is ended:
                    return each
            await anyio.sleep(0.01)


async def test_send_and_stream(page, server, sink, agent):
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1")
    await page.do("send", tab=1, text="hello there")
    reported = await page.do("done", tab=1)
    assert reported["status"] == "ready"
    assert not reported["errors"]
    user, answer = reported["messages"]
    response = await the_response(sink)
    assert text_of(answer) == response.text != ""
    assert answer["id"] == response.run
    assert kinds(answer) == ["step-start", "reasoning", "text"]
    assert answer["parts"][1]["text"] == response.reasoning
    assert all(part.get("state") == "done" for part in answer["parts"][1:])
    assert answer["metadata"]["usage"]["outputTokens"] > 0
    assert reported["finish"]["finishReason"] == "stop"
    assert agent.turns[0].text == "hello there"
    assert agent.turns[0].messages == [user]


async def test_a_tool_is_called_and_answered_in_steps(page, server, sink):
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1")
    await page.do("send", tab=1, text="What is the weather in São Paulo?")
    reported = await page.do("done", tab=1)
    assert not reported["errors"]
    answer = reported["messages"][-1]
    tool = next(part for part in answer["parts"] if part["type"] == "tool-get_weather")
    assert tool["state"] == "output-available"
    assert tool["output"] == REPORT
    assert tool["input"]["city"]
    assert kinds(answer).count("step-start") == 2
    assert text_of(answer)
    saved = await get(server, "/api/chat/c1/messages")
    assert [each["id"] for each in saved] == [each["id"] for each in reported["messages"]]
    assert saved[0]["parts"] == reported["messages"][0]["parts"]
    assert [comparable(part) for part in saved[1]["parts"]] == [
        comparable(part) for part in answer["parts"]
    ]


async def test_reload_and_resume(page, server, sink, provider):
    tell_slowly(provider)
    api = f"{server.url}/api/chat"
    await page.do("open", tab=1, api=api, id="c1")
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("drop", tab=1)
    saved = await get(server, "/api/chat/c1/messages")
    assert [each["role"] for each in saved] == ["user"]
    await page.do("open", tab=2, api=api, id="c1", messages=saved)
    await page.do("resume", tab=2)
    await page.do("text", tab=2, length=20)
    assert not (await the_response(sink, ended=False)).ended
    provider.pace = 0
    reported = await page.do("done", tab=2)
    assert not reported["errors"]
    assert len(reported["messages"]) == 2
    assert text_of(reported["messages"][-1]) == (await the_response(sink)).text


async def test_a_page_that_lost_its_connection_resumes_what_it_has(page, server, sink, provider):
    tell_slowly(provider)
    api = f"{server.url}/api/chat"
    await page.do("open", tab=1, api=api, id="c1")
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("stop", tab=1)  # a disconnect, as far as the server knows
    before = await page.do("done", tab=1)
    await page.do("resume", tab=1)
    provider.pace = 0
    reported = await page.do("done", tab=1)
    assert not reported["errors"]
    assert len(reported["messages"]) == 2
    assert reported["messages"][-1]["id"] == before["messages"][-1]["id"]
    assert text_of(reported["messages"][-1]) == (await the_response(sink)).text


async def test_nothing_to_resume(page, server):
    assert await page.do("reconnect", api=f"{server.url}/api/chat", id="c1") == {"message": None}
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c/1 ü")
    await page.do("resume", tab=1)
    assert (await page.do("done", tab=1))["status"] == "ready"


async def test_a_refresh_before_the_first_token(page, sink, provider):
    thought = Gate()

    async def agent(turn: ChatTurn) -> None:
        await thought.wait()
        turn.response.write("at last")

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        api = f"{server.url}/api/chat"
        await page.do("open", tab=1, api=api, id="c1")
        await page.do("send", tab=1, text="hm?")
        with anyio.fail_after(PATIENCE):
            while not (await sink.ahistory("c1")).items:
                await anyio.sleep(0.01)
        await page.do("drop", tab=1)
        await page.do("open", tab=2, api=api, id="c1")
        await page.do("resume", tab=2)
        await page.do("begun", tab=2)
        thought.set()
        reported = await page.do("done", tab=2)
    assert text_of(reported["messages"][-1]) == "at last"


async def test_stop_stops_the_provider_for_every_tab(page, server, sink, provider):
    tell_slowly(provider)
    api = f"{server.url}/api/chat"
    await page.do("open", tab=1, api=api, id="c1")
    await page.do("open", tab=2, api=api, id="c1")
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("resume", tab=2)
    await page.do("text", tab=2, length=20)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        answer = (await client.post("/api/chat/c1/stop")).raise_for_status().json()
    assert answer["success"]
    assert answer["state"] == "cancelled"
    tabs = [await page.do("done", tab=tab) for tab in (1, 2)]
    response = await the_response(sink)
    assert response.state == "cancelled"
    for reported in tabs:
        assert reported["status"] == "ready"
        assert not reported["errors"]
        assert text_of(reported["messages"][-1]) == response.text
        assert reported["messages"][-1]["metadata"]["state"] == "cancelled"
    with anyio.fail_after(PATIENCE):
        while provider.records[-1].outcome != "closed_early":
            await anyio.sleep(0.01)
    assert await page.do("reconnect", api=api, id="c1") == {"message": None}


async def test_the_stop_of_the_sdk_may_stop_the_agent(page, server, sink, provider):
    tell_slowly(provider)
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", stops=True)
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("stop", tab=1)
    assert (await the_response(sink)).state == "cancelled"


async def test_the_next_message_takes_the_place_of_an_answer_under_way(
    page, server, sink, provider
):
    tell_slowly(provider)
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1")
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("stop", tab=1)
    await page.do("done", tab=1)
    await page.do("send", tab=1, text="hello there")
    reported = await page.do("done", tab=1)
    assert not reported["errors"]
    states = [each.state for each in (await sink.ahistory("c1")).items if each.parts]
    assert states == ["complete", "cancelled"]
    assert [each["role"] for each in reported["messages"]] == ["user", "assistant"] * 2
    saved = await get(server, "/api/chat/c1/messages")
    assert [each["id"] for each in saved] == [each["id"] for each in reported["messages"]]


async def test_an_answer_is_made_anew(page, server, sink):
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1")
    await page.do("send", tab=1, text="hello there")
    first = await page.do("done", tab=1)
    await page.do("again", tab=1)
    reported = await page.do("done", tab=1)
    assert len(reported["messages"]) == 2
    assert reported["messages"][1]["id"] != first["messages"][1]["id"]
    saved = await get(server, "/api/chat/c1/messages")
    assert [each["id"] for each in saved] == [each["id"] for each in reported["messages"]]


async def test_a_tool_of_the_page(page, server, sink, agent, provider):
    agent.here = False
    api = f"{server.url}/api/chat"
    await page.do("open", tab=1, api=api, id="c1")
    await page.do("send", tab=1, text="What is the weather in São Paulo?")
    asked = await page.do("done", tab=1)
    (call,) = asked["toolCalls"]
    assert asked["messages"][-1]["parts"][-1]["state"] == "input-available"
    tell_slowly(provider)
    await page.do("output", tab=1, tool="get_weather", call=call, output=REPORT)
    await page.do("text", tab=1, length=5)
    await page.do("join", api=api, id="c1")
    provider.pace = 0
    again = (await page.do("rest"))["message"]
    reported = await page.do("done", tab=1)
    assert not reported["errors"]
    assert len(reported["messages"]) == 2
    answer = reported["messages"][-1]
    assert kinds(answer).count("step-start") == 2
    # Another tab, and one that comes back, are told the whole message.
    assert again["id"] == answer["id"]
    assert [comparable(part) for part in again["parts"]] == [
        comparable(part) for part in answer["parts"]
    ]
    saved = (await get(server, "/api/chat/c1/messages"))[-1]
    assert [comparable(part) for part in saved["parts"]] == [
        comparable(part) for part in answer["parts"]
    ]


async def test_an_agent_that_fails(page, sink):
    async def agent(turn: ChatTurn) -> None:
        turn.response.write("I will ")
        raise RuntimeError("no more money, sk-proj-abcdefghijklmnopqrstuvwx")

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1")
        await page.do("send", tab=1, text="hm?")
        reported = await page.do("done", tab=1)
    assert reported["status"] == "error"
    assert "no more money" in reported["error"]
    assert "abcdefghijklmnopqrstuvwx" not in reported["error"]
    assert text_of(reported["messages"][-1]) == "I will "


async def test_an_agent_in_a_thread(page, sink):
    def agent(turn: ChatTurn) -> None:
        with turn.sink.respond() as response:
            response.write(f"You said {turn.text!r}.")

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1")
        await page.do("send", tab=1, text="hm?")
        reported = await page.do("done", tab=1)
    assert text_of(reported["messages"][-1]) == "You said 'hm?'."


async def test_the_gateways_format(page, server, sink):
    """Any channel can be read as a message, also what no page asked for."""
    with sink.respond("c1", run="nightly") as response:
        response.write("It is ")
        url = f"{server.url}/tokenwire/channels/c1/events"
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            async with client.stream("GET", url, params={"format": "vercel"}) as stream:
                assert stream.headers["x-vercel-ai-ui-message-stream"] == "v1"
                response.write("done.")
                response.finish()
                body = (await stream.aread()).decode()
    (read,) = (await page.do("read", streams=[body]))["results"]
    assert not read["errors"]
    assert text_of(read["message"]) == "It is done."
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        one = await client.get(url, params={"format": "vercel", "response": response.id})
        assert "done." in one.text
        empty = await client.get(url, params={"format": "vercel", "wait": "0"})
    assert empty.status_code == 204


async def get(server: Server, path: str) -> Any:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        return (await client.get(path)).raise_for_status().json()


def comparable(part: dict[str, Any]) -> dict[str, Any]:
    """A part, without what the client adds of its own."""
    known = ("type", "text", "toolCallId", "state", "input", "output", "errorText", "data", "url")
    return {name: part[name] for name in known if name in part}
