"""A chat goes on after a stop in the middle of a tool call: providers refuse calls without answers.

Real routes, OpenAI's SDK, and a provider whose requests are looked at.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

import tokenwire
from tests.adapters.gateway.support import serving
from tests.adapters.ui import agents
from tests.adapters.ui.pages import PATIENCE
from tests.support.replay import Gate, Replay, Reply
from tests.support.sse import body
from tokenwire import approvals
from tokenwire_adapters._web.ui.calls import answered_calls
from tokenwire_adapters.ag_ui import AgentRoutes
from tokenwire_adapters.langgraph import LangGraphRoutes
from tokenwire_adapters.openai import wrap
from tokenwire_adapters.vercel import ChatRoutes

HALF = '{"city": "Par'
WHOLE = '{"city": "Paris"}'
QUESTION, NEXT = "Does it rain?", "Hello?"


def _chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def _calling(arguments: str) -> bytes:
    function = {"name": "get_weather", "arguments": arguments}
    call = {"index": 0, "id": "c1", "type": "function", "function": function}
    return body(_chunk(tool_calls=[call]), _chunk("tool_calls"))


HI = Reply(body(_chunk(content="Hi."), _chunk("stop")))


class Agent:
    """Calls a tool that never ends, and says where in it a stop may come."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self.there = agents.Gate()

    async def __call__(self, turn: Any) -> None:
        arguments = ""
        async with openai.AsyncOpenAI(
            base_url=self._replay.base_url, api_key="unused", max_retries=0
        ) as client:
            stream = await wrap(client, turn.sink).chat.completions.create(
                model="m", messages=turn.chat_messages(), tools=agents.TOOLS, stream=True
            )
            async for chunk in stream:
                for call in chunk.choices[0].delta.tool_calls or ():
                    assert call.function is not None
                    arguments += call.function.arguments or ""
                if arguments == HALF:
                    self.there.set()
        if arguments:
            self.there.set()
            await asyncio.Event().wait()


async def _use_chat(client: httpx.AsyncClient, agent: Agent) -> None:
    def message(text: str) -> dict[str, Any]:
        return {"id": text, "role": "user", "parts": [{"type": "text", "text": text}]}

    async def send(*messages: Any) -> None:
        request = {"id": "t", "messages": messages, "trigger": "submit-message"}
        (await client.post("/api/chat", json=request)).raise_for_status()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send(message(QUESTION)))
        await agent.there.wait()
        (await client.post("/api/chat/t/stop")).raise_for_status()
    shown = (await client.get("/api/chat/t/messages")).json()
    assert any(part["type"] == "tool-get_weather" for part in shown[-1]["parts"])
    await send(*shown, message(NEXT))


async def _ag_ui(client: httpx.AsyncClient, agent: Agent) -> None:
    def message(text: str) -> dict[str, Any]:
        return {"id": text, "role": "user", "content": text}

    async def send(*messages: Any) -> list[dict[str, Any]]:
        empty = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
        run = f"r{len(messages)}"
        request = {"threadId": "t", "runId": run, "messages": messages, **empty}
        answer = (await client.post("/agent", json=request)).raise_for_status()
        lines = answer.text.splitlines()
        return [json.loads(line[5:]) for line in lines if line.startswith("data:")]

    async with asyncio.TaskGroup() as tasks:
        stopped = tasks.create_task(send(message(QUESTION)))
        await agent.there.wait()
        (await client.post("/agent/t/stop")).raise_for_status()
    events = stopped.result()  # what `HttpAgent` makes of them:
    (start,) = [event for event in events if event["type"] == "TOOL_CALL_START"]
    arguments = "".join(e["delta"] for e in events if e["type"] == "TOOL_CALL_ARGS")
    function = {"name": start["toolCallName"], "arguments": arguments}
    call = {"id": start["toolCallId"], "type": "function", "function": function}
    called = {"id": start["parentMessageId"], "role": "assistant", "toolCalls": [call]}
    await send(message(QUESTION), called, message(NEXT))


async def _use_stream(client: httpx.AsyncClient, agent: Agent) -> None:
    async def send(text: str) -> None:
        given = {"messages": [{"type": "human", "content": text}]}
        request = {"input": given, "on_disconnect": "continue"}
        path = "/langgraph/threads/t/runs/stream"
        (await client.post(path, json=request)).raise_for_status()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send(QUESTION))
        await agent.there.wait()
        (run,) = (await client.get("/langgraph/threads/t/runs")).json()
        path = f"/langgraph/threads/t/runs/{run['run_id']}/cancel"
        (await client.post(path)).raise_for_status()
    state = (await client.get("/langgraph/threads/t/state")).json()
    assert state["values"]["messages"][-1]["tool_calls"]
    await send(NEXT)


@pytest.mark.parametrize("page", [_use_chat, _ag_ui, _use_stream])
@pytest.mark.parametrize("cut", [False, True], ids=["in a tool", "in its arguments"])
async def test_a_chat_goes_on_after_a_stop(sink: tokenwire.Sink, page: Any, cut: bool) -> None:
    first = Reply(_calling(HALF), gate=Gate(1)) if cut else Reply(_calling(WHOLE))
    with Replay(first, HI) as replay:
        agent = Agent(replay)
        every = (ChatRoutes, AgentRoutes, LangGraphRoutes)
        routes = [route for kind in every for route in kind(sink, agent).routes]
        with serving(Starlette(routes=routes)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                await page(client, agent)
        asked = [json.loads(exchange.body)["messages"] for exchange in replay.exchanges]
    assert len(asked) == 2
    assert faults(asked[1]) == []
    assert [(m["role"], m["content"]) for m in asked[1]] == [("user", QUESTION), ("user", NEXT)]


RESUMING = {
    "/agent": {
        "threadId": "t",
        "runId": "r2",
        "state": {},
        "tools": [],
        "context": [],
        "forwardedProps": {},
        "messages": [
            {"id": "u1", "role": "user", "content": QUESTION},
            {
                "id": "a1",
                "role": "assistant",
                "toolCalls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": WHOLE},
                    }
                ],
            },
        ],
        "resume": [{"interruptId": "q", "status": "resolved", "payload": True}],
    },
    "/langgraph/threads/t/runs/stream": {"command": {"resume": True}},
}


@pytest.mark.parametrize("path", RESUMING)
async def test_a_call_that_was_approved_after_a_restart_is_kept(
    sink: tokenwire.Sink, path: str
) -> None:
    turns: list[Any] = []

    async def agent(turn: Any) -> None:
        turns.append(turn)

    mark = {"tokenwire.run": True}
    with sink.respond("t", response_id="r1", run="r1", metadata=mark) as envelope:
        with sink.respond("t", run="r1") as response:
            response.tool_call("get_weather", "c1", WHOLE)
        asked = approvals.ask(envelope, "get_weather", json.loads(WHOLE), call_id="c1")
    request = json.loads(json.dumps(RESUMING[path]).replace('"q"', json.dumps(asked.id)))
    routes = [*AgentRoutes(sink, agent).routes, *LangGraphRoutes(sink, agent).routes]
    with serving(Starlette(routes=routes)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            (await client.post(path, json=request)).raise_for_status()
    (turn,) = turns
    assert [one.request.call_id for one in turn.answered] == ["c1"]
    (call,) = turn.chat_messages()[-1]["tool_calls"]
    assert (call["id"], json.loads(call["function"]["arguments"])) == ("c1", json.loads(WHOLE))


def faults(messages: list[dict[str, Any]]) -> list[str]:
    """What a provider refuses in a conversation."""
    found: list[str] = []
    unanswered: set[str] = set()
    for message in [*messages, {"role": "user"}]:
        if message["role"] == "tool":
            name = message["tool_call_id"]
            if name not in unanswered:
                found.append(f"{name} is no call of the message before")
            unanswered.discard(name)
            continue
        found += [f"{name} is not answered" for name in unanswered]
        calls = message.get("tool_calls", [])
        unanswered = {call["id"] for call in calls}
        if len(unanswered) < len(calls):
            found.append("two calls have one id")
        if message["role"] == "assistant" and not calls and not message["content"]:
            found.append("an empty message")
    return found


def _call(name: str, arguments: str = WHOLE) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}}


def _calls(*names: str, text: str | None = None) -> dict[str, Any]:
    calls = [_call(name) for name in names]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def _answer(name: str, content: str = "rain") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": content}


USER = {"role": "user", "content": "and?"}
SAID = {"role": "assistant", "content": "Hi."}
NAMES = st.sampled_from(["a", "b", "c"])


@st.composite
def _valid(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 6))):
        names = draw(st.lists(NAMES, unique=True))
        if names:
            answers = draw(st.permutations(names))
            called = _calls(*names, text=draw(st.sampled_from([None, "Let me see."])))
            messages += [called, *map(_answer, answers)]
        else:
            messages.append(draw(st.sampled_from([USER, SAID])))
    return messages


CALLING = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.sampled_from([None, "", "Let me see."])},
    optional={"tool_calls": st.lists(st.builds(_call, NAMES, st.sampled_from([WHOLE, HALF, ""])))},
)
ANY = st.lists(st.one_of(st.just(USER), CALLING, st.builds(_answer, NAMES)), max_size=12)


@given(ANY)
def test_whatever_comes_in_a_provider_takes_what_comes_out(messages: list[dict[str, Any]]) -> None:
    kept = answered_calls(messages)
    assert faults(kept) == []
    assert [m for m in kept if m["role"] == "user"] == [m for m in messages if m["role"] == "user"]
    said = [m["content"] for m in messages if m["role"] == "assistant" and m["content"]]
    assert [m["content"] for m in kept if m["role"] == "assistant" and m["content"]] == said


@given(_valid())
def test_a_valid_conversation_stays_as_it_is(messages: list[dict[str, Any]]) -> None:
    assert faults(messages) == []
    assert answered_calls(messages) == messages


def test_an_answer_that_came_late_is_put_behind_its_call() -> None:
    messages = [_calls("a"), USER, _calls("b"), _answer("b"), _answer("a")]
    expected = [_calls("a"), _answer("a"), USER, _calls("b"), _answer("b")]
    assert answered_calls(messages) == expected


def test_an_id_that_is_used_again_is_the_newer_calls() -> None:
    messages = [_calls("a"), USER, _calls("a"), _answer("a")]
    assert answered_calls(messages) == messages[1:]


def test_the_first_answer_counts() -> None:
    messages = [_calls("a"), _answer("a"), _answer("a", "snow")]
    assert answered_calls(messages) == messages[:2]


def test_an_answered_call_may_have_any_arguments() -> None:
    """Those of OpenAI's custom tools are text."""
    called = {"role": "assistant", "content": None, "tool_calls": [_call("a", "SELECT 1")]}
    assert answered_calls([called, _answer("a")]) == [called, _answer("a")]


def test_a_call_that_the_agent_is_about_to_answer_is_kept() -> None:
    messages = [_calls("a"), USER, _calls("a", "b", "c"), _answer("b")]
    expected = [USER, _calls("a", "b"), _answer("b")]
    assert answered_calls(messages, ["a", None]) == expected
