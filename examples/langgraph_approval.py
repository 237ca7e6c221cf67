"""A LangGraph agent on Redis that asks people before it sends a mail, and goes on by their answer.

    pip install "tokenwire[langchain,redis]" langchain-openai langgraph
    python examples/langgraph_approval.py

The graph stops by LangGraph's own `interrupt`; the question is on every screen, and the first
answer counts. Here a second task answers, as a page would. $TOKENWIRE_URL names the Redis; without
it, a redis-server is started for as long as the example runs. With $OPENAI_API_KEY set it talks to
OpenAI; without, to a provider that it starts itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Generator
from typing import Annotated, Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import (
    InjectedToolCallId,
    tool,  # pyright: ignore[reportUnknownVariableType]
)
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt

import tokenwire
from tokenwire import approvals
from tokenwire_adapters.langchain import TokenwireCallbackHandler
from tokenwire_adapters.testing.provider import ScriptedReply, serve_in_thread

THREAD = "chat-42"
QUESTION = "Tell Ann that I am late."


@contextlib.contextmanager
def provider() -> Generator[dict[str, Any], None, None]:
    """Arguments of the model: none where there is a key, else the bundled provider's."""
    if os.environ.get("OPENAI_API_KEY"):
        yield {}
        return
    with serve_in_thread(pace=float(os.environ.get("PACE", "60"))) as local:
        call = ("send_mail", {"to": "Ann", "text": "I am late."})
        local.script(ScriptedReply(tool_calls=[call]), "Ann knows that you are late.")
        yield {"base_url": local.base_url, "api_key": "unused"}


@contextlib.contextmanager
def redis() -> Generator[str, None, None]:
    """The URL of $TOKENWIRE_URL, or of a redis-server that is started for the block."""
    if url := os.environ.get("TOKENWIRE_URL"):
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        socket = f"{folder}/redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder) as server:
            try:
                while not os.path.exists(socket) and server.poll() is None:
                    time.sleep(0.01)
                yield f"redis+unix://{socket}"
            finally:
                server.terminate()


@tool
def send_mail(to: str, text: str, call_id: Annotated[str, InjectedToolCallId]) -> str:
    """Send a mail."""
    if not interrupt({"call_id": call_id, "input": {"to": to, "text": text}}):
        return "the user does not want that mail to be sent"
    return f"sent to {to}: {text}"


def graph(model: ChatOpenAI) -> Any:
    """An ordinary agent. It knows nothing of tokenwire."""
    with_tools: Any = model.bind_tools([send_mail])  # pyright: ignore[reportUnknownMemberType]

    async def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await with_tools.ainvoke(state["messages"])]}

    builder: Any = StateGraph(MessagesState)
    builder.add_node("model", call)
    builder.add_node("tools", ToolNode([send_mail]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=InMemorySaver())


async def run(agent: Any, sink: tokenwire.Sink) -> None:
    """Run the agent; where it is interrupted, ask whoever watches, and go on with the answer."""
    config: RunnableConfig = {
        "callbacks": [TokenwireCallbackHandler(sink)],
        "configurable": {"thread_id": THREAD},
    }
    state = await agent.ainvoke({"messages": [HumanMessage(QUESTION)]}, config)
    while "__interrupt__" in state:
        (wanted,) = state["__interrupt__"]
        async with sink.respond(THREAD) as response:
            request = approvals.ask(
                response, "send_mail", **wanted.value, message="Send this mail?"
            )
            decision = await approvals.await_decision(sink, response, request)
        state = await agent.ainvoke(Command(resume=decision.approved), config)


async def page(sink: tokenwire.Sink) -> None:
    """Show what happens in the thread, and answer what is asked there; a page does the same."""
    async with sink.watch(THREAD, rewind="all") as watch:
        async for event in watch:
            if isinstance(event, tokenwire.PartEvent) and event.kind == approvals.KIND:
                print(f"[asked: {event.data['message']} {event.data['input']}]")
                given = approvals.Answer(id=str(event.call_id), approved=True)
                await approvals.answer(sink, THREAD, given, sender="user-7")
            elif isinstance(event, tokenwire.PartEvent):
                print(f"[{event.kind} {event.name}] ", end="")
            elif isinstance(event, tokenwire.DeltaEvent):
                print(event.text, end="", flush=True)
            elif isinstance(event, tokenwire.ToolResultEvent):
                print(f"[{event.name or 'decision'}: {event.output}]")
            elif isinstance(event, tokenwire.EndEvent):
                print(f"\n[{event.state}, {event.finish_reason}]")
                if event.finish_reason == "stop":
                    break


async def main() -> None:
    with provider() as options, redis() as url:
        async with tokenwire.open_sink(url) as sink:
            watching = asyncio.create_task(page(sink))
            name = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
            await run(graph(ChatOpenAI(model=name, streaming=True, **options)), sink)
            await watching


if __name__ == "__main__":
    asyncio.run(main())
