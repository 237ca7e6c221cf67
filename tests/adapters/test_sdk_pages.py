"""The first example of each page of an SDK, with the model for tests in place of a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import needs
from tests.support.pages import code_blocks
from tokenwire import Sink
from tokenwire.testing import assert_streamed
from tokenwire_adapters.testing.provider import Provider

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.usefixtures("tokenwire_sink")


def run_first_example(page: str, **names: Any) -> None:
    exec(code_blocks((DOCS / f"{page}.md").read_text("utf-8"), "python")[0], names)


@pytest.mark.parametrize("page", ["openai", "anthropic"])
def test_an_sdk(page: str, tokenwire_provider: Provider) -> None:
    needs(page)
    tokenwire_provider.script("Hello there")
    run_first_example(page)
    assert_streamed("chat-42", text="Hello there")


def test_langchain(tokenwire_provider: Provider) -> None:
    needs("langchain_core", "langchain_openai", "langgraph.prebuilt")
    from langchain_openai import ChatOpenAI
    from langgraph.graph import END, START, MessagesState, StateGraph

    def model(state: MessagesState) -> Any:
        return {"messages": [ChatOpenAI(model="any").invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_edge(START, "model")
    graph.add_edge("model", END)
    tokenwire_provider.script("Hello there")
    run_first_example("langchain", agent=graph.compile(), inputs={"messages": [("user", "Hello")]})
    assert_streamed("chat-42", text="Hello there")


def test_llama_index(tokenwire_provider: Provider, tokenwire_sink: Sink) -> None:
    needs("llama_index.core", "llama_index.llms.openai")
    from llama_index.core.instrumentation import get_dispatcher
    from llama_index.llms.openai import OpenAI

    handlers = get_dispatcher().event_handlers
    before = list(handlers)
    tokenwire_provider.script("Hello there")
    try:
        run_first_example("llama-index")
        list(OpenAI(model="gpt-4o").stream_complete("Hello"))
    finally:
        handlers[:] = before
    assert_streamed("chat-42", text="Hello there")
