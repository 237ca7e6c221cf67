"""Pages of the AI SDK, old and new, with our transport and its own: stops, cuts, last messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import REPORT, SLOW, Agent, Gate, tell_slowly
from tests.adapters.ui.pages import PATIENCE, text_of
from tokenwire_adapters._web.ui import routes
from tokenwire_adapters.vercel import ChatRoutes, ChatTurn

pytestmark = pytest.mark.slow

LONG = "tell me a long story"


@pytest.fixture
def server(sink: tokenwire.Sink, agent: Agent) -> Iterator[Server]:
    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        yield server


def texts(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["role"], text_of(message)) for message in messages]


def comparable(message: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The parts of a message, with texts joined that a cut has divided."""
    parts: list[tuple[Any, ...]] = []
    for part in message["parts"]:
        kind = part["type"]
        if kind in ("text", "reasoning") and parts and parts[-1][0] == kind:
            parts[-1] = (kind, parts[-1][1] + part["text"])
        elif kind in ("text", "reasoning"):
            parts.append((kind, part["text"]))
        else:
            names = ("toolCallId", "state", "input", "output", "providerExecuted", "data")
            parts.append((kind, *(part.get(name) for name in names)))
    return parts


async def saved(server: Server) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        messages: list[dict[str, Any]] = (await client.get("/api/chat/c1/messages")).json()
        return messages


async def stop(server: Server) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        answer: dict[str, Any] = (await client.post("/api/chat/c1/stop")).raise_for_status().json()
        return answer


async def the_state(sink: tokenwire.Sink) -> str:
    """How the newest answer ended."""
    with anyio.fail_after(PATIENCE):
        while True:
            newest = (await sink.ahistory("c1")).items[-1]
            if newest.ended:
                return newest.state
            await anyio.sleep(0.01)


# -- stop


async def test_the_stop_button_stops_the_agent_from_any_tab(page, server, sink, provider):
    tell_slowly(provider)
    api = f"{server.url}/api/chat"
    await page.do("open", tab=1, api=api, id="c1", ours=True)
    await page.do("open", tab=2, api=api, id="c1", ours=True)
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("resume", tab=2)  # as after a reload
    await page.do("text", tab=2, length=20)
    outcome = await page.do("halt", tab=2)
    assert outcome["success"]
    assert outcome["state"] == "cancelled"
    for tab in (1, 2):
        seen = await page.do("done", tab=tab)
        assert seen["status"] == "ready"
        assert not seen["errors"]
        assert seen["messages"][-1]["metadata"]["state"] == "cancelled"
        assert not seen["finish"]["isAbort"]  # so that pages have to ask the metadata
    assert await the_state(sink) == "cancelled"


async def test_a_page_that_goes_does_not_stop_the_agent(page, server, sink, provider):
    """`@ai-sdk/react` calls `stop()` where a component unmounts, or shows another chat."""
    tell_slowly(provider)
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", ours=True)
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("stop", tab=1)
    assert not (await sink.ahistory("c1")).items[0].ended
    provider.pace = 0
    assert await the_state(sink) == "complete"


@pytest.mark.parametrize("ours", [True, False])
async def test_a_stop_after_a_tool_was_answered_is_not_undone(page, sink, ours):
    answered = Gate()
    turns: list[ChatTurn] = []

    async def agent(turn: ChatTurn) -> None:
        turns.append(turn)
        with turn.sink.respond() as response:
            response.tool_call("get_weather", "call-1", '{"city": "Paris"}')
            response.finish("tool_calls")
        turn.tool_result("call-1", REPORT)
        await answered.wait()

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        api = f"{server.url}/api/chat"
        await page.do("open", tab=1, api=api, id="c1", ours=ours, automatic=True)
        await page.do("send", tab=1, text="hm?")
        await page.do("part", tab=1, state="output-available")
        await stop(server)
        seen = await page.do("done", tab=1)
    answered.set()
    assert seen["status"] == "ready"
    assert seen["automatic"] == 0
    assert len(turns) == 1


@pytest.mark.parametrize("ours", [True, False])
async def test_a_tool_of_the_page_that_ends_after_a_stop_asks_nothing(page, sink, ours):
    called = Gate()
    turns: list[ChatTurn] = []

    async def agent(turn: ChatTurn) -> None:
        turns.append(turn)
        turn.response.tool_call("ask_user", "call-1", "{}")
        turn.response.write("Tell me.")
        await called.wait()

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        api = f"{server.url}/api/chat"
        await page.do("open", tab=1, api=api, id="c1", ours=ours, automatic=True)
        await page.do("send", tab=1, text="hm?")
        await page.do("text", tab=1, length=5)
        await stop(server)
        await page.do("done", tab=1)
        await page.do("settle", tab=1, tool="ask_user", call="call-1", output="yes")
        seen = await page.do("done", tab=1)
    called.set()
    assert seen["status"] == "ready"
    assert seen["automatic"] == 0
    assert len(turns) == 1


async def test_a_stop_while_only_the_page_is_at_work_is_not_undone(page, server, agent):
    """The run has ended by calling a tool of the page: the server has nothing to stop."""
    agent.here = False
    api = f"{server.url}/api/chat"
    await page.do("open", tab=1, api=api, id="c1", ours=True, automatic=True)
    await page.do("send", tab=1, text="What is the weather in São Paulo?")
    (call,) = (await page.do("done", tab=1))["toolCalls"]
    await page.do("halt", tab=1)
    await page.do("settle", tab=1, tool="get_weather", call=call, output=REPORT)
    await page.do("rested", tab=1)
    seen = await page.do("done", tab=1)
    assert seen["status"] == "ready"
    assert not seen["errors"]
    assert len(agent.turns) == 1
    await page.do("send", tab=1, text="hello there")
    assert not (await page.do("done", tab=1))["errors"]
    assert len(agent.turns) == 2


async def test_after_a_stop_the_user_may_go_on(page, server, sink, provider):
    tell_slowly(provider)
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", ours=True)
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("halt", tab=1)
    await page.do("done", tab=1)
    provider.pace = 0
    await page.do("send", tab=1, text="hello there")
    seen = await page.do("done", tab=1)
    assert not seen["errors"]
    assert len(seen["messages"]) == 4
    assert seen["messages"][-1]["metadata"]["state"] == "complete"


async def test_a_message_right_behind_a_stop_is_not_stopped(page, server):
    """Nothing is under way, so the stop waits for what it may be meant for."""
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", ours=True)
    outcome = await page.do("instead", tab=1, text="hello there")
    assert outcome == {"success": True, "run": None, "state": None}
    seen = await page.do("done", tab=1)
    assert not seen["errors"]
    assert seen["messages"][-1]["metadata"]["state"] == "complete"


async def test_a_provider_s_tool_makes_no_page_ask_again(page, sink, provider):
    async def agent(turn: ChatTurn) -> None:
        response = turn.response
        response.tool_call("web_search", "call-1", '{"query": "x"}', provider_executed=True)
        response.tool_result("call-1", ["found"])
        response.write("Found.")

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        api = f"{server.url}/api/chat"
        await page.do("open", tab=1, api=api, id="c1", automatic=True)
        await page.do("send", tab=1, text="hm?")
        seen = await page.do("done", tab=1)
    assert seen["automatic"] == 0
    assert seen["toolCalls"] == []
    tool = seen["messages"][-1]["parts"][1]
    assert (tool["type"], tool["state"]) == ("tool-web_search", "output-available")
    assert tool["providerExecuted"] is True


# -- what an agent adds to a message


async def test_metadata_and_data_of_the_agent(page, sink):
    async def agent(turn: ChatTurn) -> None:
        turn.metadata({"agent": "weather", "steps": 1})
        turn.data("progress", {"step": 1}, transient=True)
        turn.data("weather", {"celsius": 20}, id="w1")
        turn.response.write("Hm", kind="reasoning")
        turn.data("weather", {"celsius": 21}, id="w1")
        turn.response.write("It is warm.")
        turn.metadata({"steps": 2})

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        api = f"{server.url}/api/chat"
        await page.do("open", tab=1, api=api, id="c1")
        await page.do("send", tab=1, text="hm?")
        seen = await page.do("done", tab=1)
        (_, kept) = await saved(server)
        await page.do("open", tab=2, api=api, id="c1")
        await page.do("resume", tab=2)
        again = await page.do("done", tab=2)
    answer = seen["messages"][-1]
    assert {"type": "data-progress", "data": {"step": 1}, "transient": True} in seen["data"]
    for message in (answer, kept, again["messages"][-1]):
        assert message["metadata"]["agent"] == "weather"
        assert message["metadata"]["steps"] == 2
        data = [part for part in message["parts"] if part["type"].startswith("data-")]
        assert [(part["type"], part["id"], part["data"]) for part in data] == [
            ("data-weather", "w1", {"celsius": 21})
        ]
        assert text_of(message) == "It is warm."
    assert all(part.get("type") != "data-progress" for part in again["data"])
    live = [part.get("id") for part in answer["parts"] if part["type"] == "reasoning"]
    stored = [part["id"] for part in kept["parts"] if part["type"] == "reasoning"]
    assert live in (stored, [None])  # AI SDK 5 keeps no ids


async def test_a_busy_chat_says_so_in_words(page, sink, provider, agent):
    tell_slowly(provider)
    app = Starlette(routes=ChatRoutes(sink, agent, busy="refuse").routes)
    with serving(app) as server:
        api = f"{server.url}/api/chat"
        await page.do("open", tab=1, api=api, id="c1")
        await page.do("send", tab=1, text=LONG)
        await page.do("text", tab=1, length=20)
        for tab, ours in ((2, False), (3, True)):
            await page.do("open", tab=tab, api=api, id="c1", ours=ours)
            await page.do("send", tab=tab, text="and now?")
            refused = await page.do("done", tab=tab)
            assert refused["status"] == "error"
            assert refused["error"].startswith("An answer is still being written in this chat.")


async def test_a_generated_image_and_a_source_are_shown(page, sink):
    async def agent(turn: ChatTurn) -> None:
        turn.response.part("source", data={"url": "https://example.com/a", "title": "A"})
        data = {"media_type": "image/png", "base64": "iVBORw0KGgo="}
        turn.response.part("file", name="image_generation_call", data=data)

    with serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as server:
        await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1")
        await page.do("send", tab=1, text="draw")
        seen = await page.do("done", tab=1)
    (image,) = [part for part in seen["messages"][-1]["parts"] if part["type"] == "file"]
    assert image["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert image["mediaType"] == "image/png"
    (source,) = [p for p in seen["messages"][-1]["parts"] if p["type"] == "source-url"]
    assert (source["url"], source["title"]) == ("https://example.com/a", "A")


# -- cuts


@pytest.mark.parametrize("how", ["end", "error"])
async def test_a_line_that_breaks_is_taken_up_where_it_broke(page, server, sink, provider, how):
    cuts = [{"bytes": size, "how": how} for size in (600, 1500, 40, 5000, 9000)]
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", ours=True, cuts=cuts)
    provider.pace = 400.0
    await page.do("send", tab=1, text="What is the weather in São Paulo?")
    seen = await page.do("done", tab=1)
    assert not seen["errors"]
    assert seen["status"] == "ready"
    answer = seen["messages"][-1]
    (_, kept) = await saved(server)
    assert comparable(answer) == comparable(kept)
    assert answer["id"] == kept["id"]
    assert answer["metadata"]["state"] == "complete"


async def test_a_cut_answer_whose_agent_has_ended_meanwhile_is_whole(page, server, sink, agent):
    cuts = [{"bytes": 900, "how": "error"}]
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", ours=True, cuts=cuts)
    await page.do("send", tab=1, text=LONG)
    seen = await page.do("done", tab=1)
    assert not seen["errors"]
    assert texts(seen["messages"]) == texts(await saved(server))


async def test_a_cut_answer_with_a_tool_of_the_page(page, server, agent, provider):
    agent.here = False
    api = f"{server.url}/api/chat"
    cuts = [None, {"bytes": 700, "how": "end"}]
    await page.do("open", tab=1, api=api, id="c1", ours=True, cuts=cuts)
    await page.do("send", tab=1, text="What is the weather in São Paulo?")
    asked = await page.do("done", tab=1)
    (call,) = asked["toolCalls"]
    await page.do("output", tab=1, tool="get_weather", call=call, output=REPORT)
    seen = await page.do("done", tab=1)
    assert not seen["errors"]
    assert len(seen["messages"]) == 2
    (_, kept) = await saved(server)
    assert comparable(seen["messages"][-1]) == comparable(kept)


@pytest.mark.parametrize("how", ["end", "error"])
async def test_a_page_of_the_sdk_alone_gets_the_rest_after_the_end(page, server, sink, how):
    """Its stream is cut; when it resumes, the answer is over."""
    cuts = [{"bytes": 900, "how": how}]
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", cuts=cuts)
    await page.do("send", tab=1, text=LONG)
    before = await page.do("done", tab=1)
    assert await the_state(sink) == "complete"
    await page.do("resume", tab=1)
    seen = await page.do("done", tab=1)
    assert seen["status"] == "ready"
    assert len(text_of(before["messages"][-1])) < len(text_of(seen["messages"][-1]))
    assert texts(seen["messages"]) == texts(await saved(server))


async def test_what_ended_long_ago_is_not_resumed(page, sink, agent):
    with serving(Starlette(routes=ChatRoutes(sink, agent, resume_ended=0).routes)) as server:
        api = f"{server.url}/api/chat"
        await page.do("open", tab=1, api=api, id="c1")
        await page.do("send", tab=1, text="hello there")
        await page.do("done", tab=1)
        assert await page.do("reconnect", api=api, id="c1") == {"message": None}
        run = (await sink.ahistory("c1")).items[-1].run
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            named = await client.get("/api/chat/c1/stream", params={"run": run})
            other = await client.get("/api/chat/c1/stream", params={"run": "run-none"})
    assert '"finish"' in named.text
    assert other.status_code == 204


# -- the last message only


@pytest.mark.parametrize("ours", [True, False])
async def test_the_agent_gets_the_history_where_the_page_sends_its_last_message(
    page, server, agent, ours
):
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", ours=ours, lastOnly=True)
    for text in ("hello there", "hello again"):
        await page.do("send", tab=1, text=text)
        seen = await page.do("done", tab=1)
        assert not seen["errors"]
    assert texts(agent.turns[-1].messages) == texts(seen["messages"][:-1])
    await page.do("again", tab=1)  # a new answer to the same message
    seen = await page.do("done", tab=1)
    assert texts(agent.turns[-1].messages) == texts(seen["messages"][:-1])
    assert [each["id"] for each in await saved(server)] == [each["id"] for each in seen["messages"]]
    first = seen["messages"][0]["id"]
    await page.do("edit", tab=1, text="hello anew", message=first)
    seen = await page.do("done", tab=1)
    assert texts(agent.turns[-1].messages) == [("user", "hello anew")]
    assert texts(await saved(server)) == texts(seen["messages"])


async def test_the_last_message_while_an_answer_is_under_way(page, server, agent, provider):
    tell_slowly(provider)
    api = f"{server.url}/api/chat"
    await page.do("open", tab=1, api=api, id="c1", lastOnly=True)
    await page.do("send", tab=1, text=LONG)
    await page.do("text", tab=1, length=20)
    await page.do("stop", tab=1)
    await page.do("done", tab=1)
    provider.pace = 0
    await page.do("send", tab=1, text="hello there")
    seen = await page.do("done", tab=1)
    assert [message["role"] for message in agent.turns[-1].messages] == [
        "user",
        "assistant",
        "user",
    ]
    assert [each["id"] for each in await saved(server)] == [each["id"] for each in seen["messages"]]


async def test_a_tool_of_a_page_that_sends_its_last_message(page, server, agent):
    agent.here = False
    await page.do("open", tab=1, api=f"{server.url}/api/chat", id="c1", lastOnly=True)
    await page.do("send", tab=1, text="What is the weather in São Paulo?")
    (call,) = (await page.do("done", tab=1))["toolCalls"]
    await page.do("output", tab=1, tool="get_weather", call=call, output=REPORT)
    seen = await page.do("done", tab=1)
    assert not seen["errors"]
    user, answer = agent.turns[-1].messages
    assert text_of(user) == "What is the weather in São Paulo?"
    assert any(part.get("output") == REPORT for part in answer["parts"])
    assert [comparable(each) for each in await saved(server)] == [
        comparable(each) for each in seen["messages"]
    ]


# -- a stop before the run exists


@pytest.mark.parametrize("busy", [False, True])
async def test_a_stop_right_after_the_message(sink, provider, agent, busy):
    """Wherever in the handling of the message it comes."""
    provider.pace = SLOW
    arrived: list[str] = []  # the chat of each message

    async def authorize(_connection: Any, channel: str, action: str) -> bool:
        if action == "input":
            arrived.append(channel)
            await anyio.sleep(0.1)
        return True

    app = Starlette(routes=ChatRoutes(sink, agent, authorize=authorize).routes)
    with serving(app) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            for number, delay in enumerate((0, 0.002, 0.01, 0.05, 0.12)):
                chat = f"chat-{number}"
                answers: list[str] = []

                async def post(name: str, answers: list[str] = answers, chat: str = chat) -> None:
                    message = {
                        "id": name,
                        "role": "user",
                        "parts": [{"type": "text", "text": LONG}],
                    }
                    body = {"id": chat, "messages": [message], "trigger": "submit-message"}
                    answers.append((await client.post("/api/chat", json=body)).text)

                async with anyio.create_task_group() as group:
                    if busy:
                        group.start_soon(post, "m1")
                        with anyio.fail_after(PATIENCE):
                            while not (await sink.ahistory(chat)).items:
                                await anyio.sleep(0.01)
                    group.start_soon(post, "m2")
                    # A stop that comes before it is one of the answer under way alone.
                    with anyio.fail_after(PATIENCE):
                        while busy and arrived.count(chat) < 2:
                            await anyio.sleep(0.001)
                    await anyio.sleep(delay)
                    outcome = (await client.post(f"/api/chat/{chat}/stop")).json()
                    assert outcome["success"]
                    assert outcome["run"]
                assert len(answers) == 1 + busy
                assert all('"abort"' in answer for answer in answers)
                await client.post(f"/api/chat/{chat}/stop")


async def test_a_stop_by_another_server_before_the_run_is_seen(sink, provider, agent, monkeypatch):
    monkeypatch.setattr(routes, "_STOP_PATIENCE", 30 * routes._STOP_PATIENCE)  # of a busy machine
    provider.pace = SLOW
    with (
        serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as one,
        serving(Starlette(routes=ChatRoutes(sink, agent).routes)) as other,
    ):
        message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": LONG}]}
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            outcome: dict[str, Any] = {}

            async def halt() -> None:
                outcome.update((await client.post(f"{other.url}/api/chat/c1/stop")).json())

            async with anyio.create_task_group() as group:
                group.start_soon(halt)
                await anyio.sleep(0.05)
                body = {"id": "c1", "messages": [message]}
                answer = (await client.post(f"{one.url}/api/chat", json=body)).text
    assert outcome["run"]
    assert '"abort"' in answer


async def test_a_stop_where_nothing_is_under_way(page, server):
    assert await stop(server) == {"success": True, "run": None, "state": None}
