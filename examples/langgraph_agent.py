"""A LangGraph agent with a tool; its thread is the channel, and a screen watches it.

    pip install "tokenwire[langchain]" langchain-openai langgraph
    python examples/langgraph_agent.py

With $OPENAI_API_KEY set it talks to OpenAI; without, to a provider that it starts itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool  # pyright: ignore[reportUnknownVariableType]
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

import tokenwire
from tokenwire_adapters.langchain import TokenwireCallbackHandler
from tokenwire_adapters.testing.provider import serve_in_thread

THREAD = "chat-42"
QUESTION = "What is the weather in Paris?"


@contextlib.contextmanager
def provider() -> Generator[dict[str, Any], None, None]:
    """Arguments of the model: none where there is a key, else the bundled provider's."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        yield {"base_url": local.base_url, "api_key": "unused"}


@tool
def get_weather(city: str) -> str:
    """Look up the weather in a city."""
    return f"sunny in {city}"


def graph(model: ChatOpenAI) -> Any:
    """An ordinary agent. It knows nothing of tokenwire."""
    with_tools: Any = model.bind_tools([get_weather])  # pyright: ignore[reportUnknownMemberType]

    async def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await with_tools.ainvoke(state["messages"])]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("model", call)
    builder.add_node("tools", ToolNode([get_weather]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile()


async def screen(sink: tokenwire.Sink) -> None:
    """Print what happens in the thread until the model has answered."""
    async with sink.watch(THREAD, rewind="all") as watch:
        async for event in watch:
            if isinstance(event, tokenwire.PartEvent):
                print(f"[{event.kind} {event.name}] ", end="")
            elif isinstance(event, tokenwire.DeltaEvent):
                print(event.text, end="", flush=True)
            elif isinstance(event, tokenwire.ToolResultEvent):
                print(f"[{event.name} answered: {event.output}]")
            elif isinstance(event, tokenwire.EndEvent):
                print(f"\n[{event.state}, {event.finish_reason}]")
                if event.finish_reason != "tool_calls":
                    break


async def main() -> None:
    with provider() as options:
        async with tokenwire.open_sink("memory://") as sink:
            watching = asyncio.create_task(screen(sink))
            name = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
            agent = graph(ChatOpenAI(model=name, streaming=True, **options))
            config: RunnableConfig = {
                "callbacks": [TokenwireCallbackHandler(sink)],
                "configurable": {"thread_id": THREAD},
            }
            await agent.ainvoke({"messages": [HumanMessage(QUESTION)]}, config)
            await watching


if __name__ == "__main__":
    asyncio.run(main())
