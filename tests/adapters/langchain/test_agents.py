"""LangGraph agents: tools, threads, runs, interrupts, subgraphs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt

import tokenwire
from tests.support.frameworks import await_until
from tokenwire_adapters.langchain import TokenwireCallbackHandler
from tokenwire_adapters.testing.provider import Provider, ScriptedReply, serve_in_thread

from . import models

Responses = Callable[[], list[tokenwire.Response]]
QUESTION: Any = {"messages": [HumanMessage("What is the weather in Paris?")]}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serve_in_thread(pace=0) as provider:
        yield provider


@tool
def get_weather(city: str) -> str:
    """Look the weather up."""
    return f"sunny in {city}"


@tool
def get_weather_badly(city: str) -> str:
    """Look the weather up."""
    raise ValueError(f"no such city: {city}")


@tool
def get_weather_asking(city: str) -> str:
    """Look the weather up, with leave."""
    return f"{interrupt('may I?')} in {city}"


def graph(provider: Provider, *tools: Any, checkpointer: Any = None, **options: Any) -> Any:
    model = ChatOpenAI(
        model="gpt-4o", base_url=provider.base_url, api_key="k", max_retries=0, **options
    ).bind_tools(tools)

    def call(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def acall(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda

    builder = StateGraph(MessagesState)
    builder.add_node("model", RunnableLambda(call, acall))
    builder.add_node("tools", ToolNode(list(tools), handle_tool_errors=True))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=checkpointer)


def _check(responses: list[tokenwire.Response], *, thread: str | None = None) -> None:
    asks, answers = responses
    assert asks.run == answers.run != asks.id
    (call,) = asks.tool_calls
    assert (call.name, json.loads(call.text)) == ("get_weather", {"city": "Paris"})
    (result,) = asks.tool_results
    assert (result.call_id, result.name) == (call.call_id, "get_weather")
    assert (result.output, result.error) == ("sunny in Paris", None)
    assert "sunny in Paris" in answers.text
    assert (asks.finish_reason, answers.finish_reason) == ("tool_calls", "stop")
    assert asks.metadata["langgraph_node"] == "model"


@pytest.mark.parametrize("streaming", [True, False])
def test_sync(provider: Provider, streaming: bool, config: Any, responses: Responses) -> None:
    graph(provider, get_weather, streaming=streaming).invoke(QUESTION, config)
    _check(responses())


@pytest.mark.parametrize("mode", ["messages", "values", "updates"])
def test_stream_modes(provider: Provider, mode: Any, config: Any, responses: Responses) -> None:
    for _ in graph(provider, get_weather).stream(QUESTION, config, stream_mode=mode):
        pass
    _check(responses())


async def test_async(provider: Provider, config: Any, responses: Responses) -> None:
    agent = graph(provider, get_weather)
    async for _ in agent.astream(QUESTION, config, stream_mode="messages"):
        pass
    _check(responses())


async def test_events(provider: Provider, config: Any, responses: Responses) -> None:
    async for _ in graph(provider, get_weather).astream_events(QUESTION, config, version="v2"):
        pass
    _check(responses())


def test_layers_together(provider: Provider, config: Any, responses: Responses) -> None:
    """With the SDK's tap, the tokens come from below; runs and tool results stay ours."""
    from tokenwire.instrument import Options
    from tokenwire_adapters import openai

    openai.instrumentor.start(Options())
    try:
        graph(provider, get_weather, streaming=True).invoke(QUESTION, config)
    finally:
        openai.instrumentor.stop()
    _check(responses())
    assert {each.metadata["api"] for each in responses()} == {"chat.completions"}


def test_a_thread_is_a_channel(provider: Provider, sink: tokenwire.Sink) -> None:
    agent = graph(provider, get_weather, checkpointer=InMemorySaver())
    handler = TokenwireCallbackHandler(sink)
    agent.invoke(QUESTION, {"callbacks": [handler], "configurable": {"thread_id": "t-7"}})
    _check(list(reversed(sink.history("t-7").items)))


def test_a_tool_that_fails(provider: Provider, config: Any, responses: Responses) -> None:
    graph(provider, get_weather_badly).invoke(QUESTION, config)
    (result,) = responses()[0].tool_results
    assert result.output is None
    assert "no such city: Paris" in (result.error or "")


def test_an_interrupt_is_no_error(
    provider: Provider, handler: TokenwireCallbackHandler, responses: Responses
) -> None:
    agent = graph(provider, get_weather_asking, checkpointer=InMemorySaver())
    config: Any = {"callbacks": [handler], "configurable": {"thread_id": "t"}}
    agent.invoke(QUESTION, config)
    (asks,) = responses()
    assert asks.state == "complete"
    assert asks.tool_results == ()
    agent.invoke(Command(resume="sunny"), config)
    asks, _ = responses()
    (result,) = asks.tool_results
    assert (result.output, result.error) == ("sunny in Paris", None)


def test_a_tool_that_gives_a_command(config: Any, responses: Responses, sink: Any) -> None:
    @tool
    def move(tool_call_id: Any = None) -> Any:
        """Move on."""
        return Command(update={"messages": [ToolMessage("moved", tool_call_id="c1")]}, goto=END)

    call: Any = {"name": "move", "args": {}, "id": "c1", "type": "tool_call"}
    move.invoke(call, config)
    assert sink.flush(30)
    events = sink.watch("c", rewind="all")
    for event in events:
        if isinstance(event, tokenwire.ToolResultEvent):
            assert (event.call_id, event.output, event.name) == ("c1", "moved", "move")
            break
    events.close()


def test_silent_nodes(provider: Provider, config: Any, responses: Responses) -> None:
    quiet = ChatOpenAI(
        model="gpt-4o", base_url=provider.base_url, api_key="k", streaming=True, tags=["nostream"]
    )
    loud = quiet.model_copy(update={"tags": []})
    builder = StateGraph(MessagesState)
    builder.add_node("quiet", lambda state: {"messages": [quiet.invoke(state["messages"])]})
    builder.add_node("loud", lambda state: {"messages": [loud.invoke(state["messages"])]})
    builder.add_edge(START, "quiet")
    builder.add_edge("quiet", "loud")
    builder.compile().invoke({"messages": [HumanMessage("hi")]}, config)
    (response,) = responses()
    assert response.metadata["langgraph_node"] == "loud"


async def test_parallel_branches(provider: Provider, config: Any, responses: Responses) -> None:
    model = ChatOpenAI(model="gpt-4o", base_url=provider.base_url, api_key="k", streaming=True)

    async def call(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    for name in ("a", "b", "c"):
        builder.add_node(name, call)
        builder.add_edge(START, name)
    result = await builder.compile().ainvoke({"messages": [HumanMessage("hi")]}, config)
    reported = [each for each in result["messages"] if isinstance(each, AIMessage)]
    assert sorted(each.text for each in responses()) == sorted(each.content for each in reported)
    assert len({each.run for each in responses()}) == 1
    assert {each.metadata["langgraph_node"] for each in responses()} == {"a", "b", "c"}


@pytest.mark.parametrize("mode", ["values", "messages"])
async def test_a_cancel_ends_the_agent(mode: Any, config: Any, responses: Responses) -> None:
    async with Provider(pace=30) as provider:
        agent = graph(provider, get_weather)

        async def run() -> None:
            async for _ in agent.astream(
                {"messages": [HumanMessage("tell me a long story")]}, config, stream_mode=mode
            ):
                pass

        if mode == "values":  # nothing asks the model to stream
            agent = graph(provider, get_weather, streaming=True)
        call = asyncio.create_task(run())
        sink = config["callbacks"][0]._sink
        (response,) = await await_until(lambda: [e for e in sink.history("c").items if e.text])
        assert (await sink.acancel("c", response.id)).state == "cancelled"
        with pytest.raises(tokenwire.ResponseCancelled):
            await call
        await await_until(lambda: provider.counters.running == 0)
    assert responses()[-1].state == "cancelled"


async def test_a_cancelled_graph(config: Any, responses: Responses) -> None:
    async with Provider(pace=0) as provider:
        provider.script(ScriptedReply(text=["Once", " upon"], stall_after=1))
        agent = graph(provider, get_weather, streaming=True)
        call = asyncio.create_task(
            agent.ainvoke({"messages": [HumanMessage("tell me a long story")]}, config)
        )
        await models.read_on(lambda: [each for each in responses() if each.text])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await await_until(lambda: all(each.ended for each in responses()))
    assert responses()[-1].state == "cancelled"
