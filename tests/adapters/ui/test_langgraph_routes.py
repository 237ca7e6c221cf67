"""What LangChain's clients ask of a server, and what is no such request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import Server, serving
from tests.adapters.ui.agents import Gate
from tests.adapters.ui.pages import PATIENCE
from tokenwire.backend import HistoryPage
from tokenwire.events import SnapshotEvent
from tokenwire_adapters._web.langgraph.events import ThreadEncoder
from tokenwire_adapters._web.langgraph.threads import Thread
from tokenwire_adapters.asgi import Gateway
from tokenwire_adapters.langgraph import LangGraphRoutes, LangGraphTurn
from tokenwire_adapters.ui import recent_runs

HELLO = {"input": {"messages": [{"type": "human", "content": "hello", "id": "m1"}]}}


class Echo:
    """Says what it was asked, and can be held before its end."""

    def __init__(self) -> None:
        self.turns: list[LangGraphTurn] = []
        self.gate: Gate | None = None
        self.asks = False  # before it says anything, once

    async def __call__(self, turn: LangGraphTurn) -> None:
        self.turns.append(turn)
        first = {"first": turn.text} if len(self.turns) == 1 else {}
        turn.values(asked=turn.text, **first)
        if self.asks:
            self.asks = False
            await turn.approve("send_mail", {"to": "Ann"})
        turn.response.write(f"You said {turn.text}.")
        if self.gate is not None:
            await self.gate.wait()


@pytest.fixture
def agent() -> Echo:
    return Echo()


@pytest.fixture
def server(sink: tokenwire.Sink, agent: Echo) -> Iterator[Server]:
    app = Starlette(routes=LangGraphRoutes(sink, agent).routes)
    app.mount("/gateway", Gateway(sink))
    with serving(app) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    url = f"{server.url}/langgraph"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        yield client


def events_of(body: str) -> list[tuple[str, Any]]:
    events: list[tuple[str, Any]] = []
    for block in body.split("\n\n"):
        fields = [line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")]
        named = {name: value for name, value in fields if name in ("event", "data")}
        if "data" in named:
            events.append((named.get("event", ""), json.loads(named["data"])))
    return events


async def run(client: httpx.AsyncClient, body: Any = HELLO) -> list[tuple[str, Any]]:
    answer = (await client.post("/threads/t1/runs/stream", json=body)).raise_for_status()
    assert answer.headers["location"] == answer.headers["content-location"] + "/stream"
    return events_of(answer.text)


async def read_until(stream: httpx.Response, text: str) -> str:
    """Read until this has come, in however many pieces; return all that came."""
    received = ""
    with anyio.fail_after(PATIENCE):
        async for piece in stream.aiter_text():
            received += piece
            if text in received:
                break
    return received


async def events_of_a_run(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    """What the events of thread "t1" are sent as, until a run is completed."""
    async with client.stream("POST", "/threads/t1/stream/events", json=body) as stream:
        return await read_until(stream, '"completed"')


async def test_a_run(client, agent):
    events = await run(client)
    assert [name for name, _ in events] == ["metadata", "values", "values", "messages", "values"]
    assert events[1][1]["messages"] == HELLO["input"]["messages"]
    last = events[-1][1]
    assert last["asked"] == "hello"
    assert [(m["type"], m["content"]) for m in last["messages"]] == [
        ("human", "hello"),
        ("ai", "You said hello."),
    ]
    state = (await client.get("/threads/t1/state")).json()
    assert state["values"] == last
    assert (state["next"], state["tasks"]) == ([], [])
    assert agent.turns[0].chat_messages() == [{"role": "user", "content": "hello"}]


async def test_a_run_that_asks_before_it_acts(client, agent):
    """A page that is loaded anew finds the question in the thread's state."""
    agent.asks = True
    assert "__interrupt__" in (await run(client))[-1][1]
    state = (await client.get("/threads/t1/state")).json()
    (interrupt,) = state["tasks"][0]["interrupts"]
    assert interrupt["value"]["action_requests"] == [{"name": "send_mail", "args": {"to": "Ann"}}]
    path = f"/threads/t1/runs/{agent.turns[0].run}"
    assert (await client.get(path)).json()["status"] == "interrupted"
    async with client.stream("POST", "/threads/t1/runs/stream", json=HELLO) as other:
        await other.aread()  # the user goes on instead
    assert (await client.get("/threads/t1/state")).json()["tasks"] == []


async def test_what_the_user_denies_has_an_error_for_its_result(client, agent):
    """The agent of this thread gives none, and models take no call without a result."""
    agent.asks = True
    await run(client)
    denied = {"decisions": [{"type": "reject", "message": "Not to Ann."}]}
    events = await run(client, {"command": {"resume": denied}})
    (result,) = [m for m in events[-1][1]["messages"] if m["type"] == "tool"]
    assert (result["status"], "Not to Ann." in result["content"]) == ("error", True)


async def test_a_message_is_edited_from_the_checkpoint_before_it(client, agent):
    await run(client)
    await run(client, {"input": {"messages": [{"role": "user", "content": "more"}]}})
    states = (await client.post("/threads/t1/history", json={"limit": 20})).json()
    assert [len(state["values"]["messages"]) for state in states] == [4, 3, 2, 1]
    before = states[1]["parent_checkpoint"]
    assert before == states[2]["checkpoint"]
    events = await run(client, {"input": {"messages": "less"}, "checkpoint": before})
    texts = [message["content"] for message in events[-1][1]["messages"]]
    assert texts == ["hello", "You said hello.", "less", "You said less."]
    assert [m["content"] for m in agent.turns[-1].chat_messages()] == texts[:-1]
    assert (await client.get("/threads/t1/state")).json()["values"] == events[-1][1]


async def test_what_a_run_puts_into_the_state_stays_there(client, sink):
    """A client takes the values it is sent for all of the state."""
    more = {"input": {"messages": [{"role": "user", "content": "more"}]}}
    await run(client)
    thread = ThreadEncoder(Thread("t1", await recent_runs(sink, "t1")), ["values"])
    events = await run(client, more)
    values = [data for name, data in events if name == "values"]
    assert {one["first"] for one in values} == {"hello"}
    newest = (await recent_runs(sink, "t1"))[-1]
    frames = [
        frame for one in newest.responses for frame in thread.encode(SnapshotEvent(response=one))
    ]
    sent = [json.loads(frame.data)["params"]["data"] for frame in frames]
    assert {one["first"] for one in sent} == {"hello"}
    body = {"channels": ["values", "lifecycle"]}
    received = await events_of_a_run(client, body)
    blocks = [data["params"] for _, data in events_of(received) if data["method"] == "values"]
    assert {block["data"]["first"] for block in blocks} == {"hello"}
    joined = await client.get(f"/threads/t1/runs/{newest.id}/stream")
    values = [data for name, data in events_of(joined.text) if name == "values"]
    assert {one["first"] for one in values} == {"hello"}


async def test_a_client_that_joins_has_the_beginning_once(client, agent, sink):
    agent.gate = Gate()
    async with client.stream("POST", "/threads/t1/runs/stream", json=HELLO) as first:
        async for _ in first.aiter_text():
            if agent.turns:
                break
        path = f"{first.headers['location']}"
        async with client.stream("GET", path, headers={"last-event-id": "-1"}) as second:
            body = ""
            async for piece in second.aiter_text():
                body += piece
                if '"messages"' in body and "You said" in body and agent.gate is not None:
                    agent.gate.set()
                    agent.gate = None
    chunks = [data[0] for name, data in events_of(body) if name == "messages"]
    assert [chunk["type"] for chunk in chunks] == ["remove", "AIMessageChunk"]
    assert chunks[1]["content"] == "You said hello."


@pytest.mark.parametrize("earlier", [False, True])
async def test_a_run_that_begins_while_its_thread_is_opened(agent, earlier):
    """A page asks for a thread's events when its run was begun, but had not arrived."""
    pending: list[str] = []
    command = {"id": 1, "method": "run.start", "params": {**HELLO, "assistant_id": "agent"}}

    def begin() -> None:
        url = f"{pending.pop()}/threads/t1"
        answer = httpx.post(f"{url}/commands", json=command, timeout=PATIENCE).json()
        run = f"{url}/runs/{answer['result']['run_id']}"
        # Not watched: those who come within a second share what a watcher was replayed.
        while httpx.get(run, timeout=PATIENCE).json().get("status") != "success":
            pass

    class Between(tokenwire.MemoryBackend):
        """A run begins after it was asked what has been said."""

        async def history(
            self, channel: str, *, limit: int, before: str | None = None
        ) -> HistoryPage:
            page = await super().history(channel, limit=limit, before=before)
            if pending:
                await asyncio.to_thread(begin)
            return page

    body = {"channels": ["messages", "lifecycle"]}
    with tokenwire.open_sink(Between(), strict=True) as sink:
        with serving(Starlette(routes=LangGraphRoutes(sink, agent).routes)) as server:
            url = f"{server.url}/langgraph"
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
                if earlier:
                    await run(client)
                pending.append(url)
                received = await events_of_a_run(client, body)
    assert agent.turns[-1].run in received
    assert "You said hello." in received


@pytest.mark.parametrize(("asked", "state"), [("cancel", "cancelled"), ("continue", "complete")])
async def test_a_page_that_goes(client, agent, sink, asked, state):
    gate = agent.gate = Gate()
    body = {**HELLO, "on_disconnect": asked}
    async with client.stream("POST", "/threads/t1/runs/stream", json=body) as stream:
        await read_until(stream, "You said")
    if asked == "continue":
        gate.set()
    with anyio.fail_after(PATIENCE):
        while not (newest := (await sink.ahistory("t1")).items[0]).ended:
            await anyio.sleep(0.01)
    assert newest.state == state


async def test_a_run_is_stopped_once(client, agent):
    agent.gate = Gate()
    body = {"id": 1, "method": "run.start", "params": {**HELLO, "assistant_id": "agent"}}
    answer = (await client.post("/threads/t1/commands", json=body)).json()
    assert (answer["type"], answer["id"]) == ("success", 1)
    run_id = answer["result"]["run_id"]
    assert (await client.get(f"/threads/t1/runs/{run_id}")).json()["status"] == "running"
    reject = {**HELLO, "multitask_strategy": "reject"}
    assert (await client.post("/threads/t1/runs/stream", json=reject)).status_code == 409
    cancel = f"/threads/t1/runs/{run_id}/cancel?wait=0&action=interrupt"
    assert (await client.post(cancel)).status_code == 202
    assert (await client.post(cancel)).status_code == 404
    assert (await client.get(f"/threads/t1/runs/{run_id}")).json()["status"] == "interrupted"


async def test_a_thread_that_nobody_has_written_to(client):
    created = (await client.post("/threads", json={"metadata": {"user": "u1"}})).json()
    assert created["metadata"] == {"user": "u1"}
    state = (await client.get(f"/threads/{created['thread_id']}/state")).json()
    assert (state["values"], state["next"], state["checkpoint"]) == ({}, [], None)
    assert (await client.post(f"/threads/{created['thread_id']}/history", json={})).json() == []


ODD: list[Any] = [None, 7, "x", [], [1], {}, {"messages": 7}, {"messages": [7]}, {"decisions": []}]


@pytest.mark.parametrize("odd", ODD, ids=str)
async def test_what_is_no_request(client, odd):
    bodies = [
        ("/threads", {"thread_id": odd, "metadata": odd}),
        ("/threads/t1/history", {"limit": odd}),
        ("/threads/t1/runs/stream", {"input": odd, "config": odd, "checkpoint": odd}),
        ("/threads/t1/runs/stream", {"command": {"resume": odd}}),
        ("/threads/t1/runs/stream", {"checkpoint": {"checkpoint_id": odd}, "input": None}),
        ("/threads/t1/commands", {"id": odd, "method": odd, "params": odd}),
        ("/threads/t1/commands", {"id": 1, "method": "input.respond", "params": odd}),
        ("/threads/t1/commands", {"id": 1, "method": "run.start", "params": odd}),
        ("/threads/t1/commands", odd),
    ]
    for path, body in bodies:
        answer = await client.post(path, json=body)
        assert answer.status_code < 500, (path, body, answer.text)


async def test_what_is_not_there(client):
    await run(client)
    there = {"input": None, "checkpoint": {"checkpoint_id": "nowhere"}}
    assert (await client.post("/threads/t1/runs/stream", json=there)).status_code == 404
    for path in ("/threads/t1/runs/r9", "/threads/t1/runs/r9/stream", "/threads/t1/other", "/x"):
        assert (await client.get(path)).status_code == 404
    resume = {"command": {"resume": True}}
    assert (await client.post("/threads/t1/runs/stream", json=resume)).status_code == 409


async def test_the_gateways_format(server, sink):
    with sink.respond("c1", run="nightly") as response:
        response.write("It is ")
        url = f"{server.url}/gateway/channels/c1/events"
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            async with client.stream("GET", url, params={"format": "langgraph"}) as stream:
                response.write("done.")
                response.finish()
                body = (await stream.aread()).decode()
    (message,) = events_of(body)[-1][1]["messages"]
    assert message["content"] == "It is done."


async def test_a_run_that_comes_as_a_snapshot(client, agent, sink):
    """As where a backend's log begins with it, or the reader had a gap."""
    await run(client)
    first = await recent_runs(sink, "t1")
    encoder = ThreadEncoder(Thread("t1", first), ["lifecycle", "messages"])
    assert [*encoder.encode(SnapshotEvent(response=first[0].responses[0]))] == []
    agent.gate = Gate()
    again = {"input": {"messages": [{"type": "human", "content": "it again", "id": "m2"}]}}
    async with client.stream("POST", "/threads/t1/runs/stream", json=again) as stream:
        await read_until(stream, "You said it again")
        (newest,) = (await sink.ahistory("t1", limit=1)).items
        assert newest.state == "streaming"
        sent = [json.loads(frame.data) for frame in encoder.encode(SnapshotEvent(response=newest))]
        data = [event["params"]["data"] for event in sent]
        assert [one["event"] for one in data] == [
            "running",
            "message-start",
            "content-block-start",
            "content-block-delta",
        ]
        assert data[-1]["delta"]["text"] == "You said it again."
        assert [*encoder.encode(SnapshotEvent(response=newest))] == []
        agent.gate.set()
