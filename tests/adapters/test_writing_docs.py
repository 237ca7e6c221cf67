"""docs/writing.md: its agent does what the page says."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.pages import code_blocks
from tokenwire import Sink
from tokenwire.events import DataEvent
from tokenwire.testing import assert_streamed

PAGE = (Path(__file__).parents[2] / "docs" / "writing.md").read_text("utf-8")


@pytest.fixture
def agent(tokenwire_sink):
    """The agent of the page, running; ended by an input `quit`."""
    (source,) = [block for block in code_blocks(PAGE, "python") if "def main(sink" in block]
    namespace: dict[str, object] = {"__name__": "agent"}
    exec(compile(source, "docs/writing.md", "exec"), namespace)
    thread = threading.Thread(target=namespace["main"], args=(tokenwire_sink,))
    thread.start()
    yield
    tokenwire_sink.input("chat-42", "quit")
    thread.join(30)
    assert not thread.is_alive()


def ask(sink: Sink, city: str) -> str:
    """Ask the agent; return the id of its response once that has ended."""
    with sink.watch("chat-42") as watch:
        sink.input("chat-42", "message", {"city": city}, sender="u1")
        for event in watch:
            if event.type == "end":
                return event.response_id or ""
    raise AssertionError


def test_the_agent_writes_all_kinds_of_parts(tokenwire_sink, agent):
    ask(tokenwire_sink, "Oslo")
    response = assert_streamed(
        "chat-42",
        text="It is 7 degrees. ",
        reasoning="They ask about the weather.",
        tools={"weather": {"city": "Oslo"}},
    )
    assert [part.kind for part in response.parts] == [
        "reasoning", "tool_call", "data", "source", "file", "text",
    ]  # fmt: skip
    assert [result.output for result in response.tool_results] == [{"city": "Oslo", "degrees": 7}]
    assert response.metadata == {"model": "by-hand", "user": "u1"}
    assert (response.finish_reason, response.usage) == (
        "stop",
        {"input_tokens": 12, "output_tokens": 4},
    )


def test_the_agent_fails_and_goes_on(tokenwire_sink, agent):
    ask(tokenwire_sink, "Atlantis")
    response = assert_streamed(
        "chat-42", ended="failed", error="LookupError: there is no such city"
    )
    assert [result.error for result in response.tool_results] == ["there is no such city"]
    ask(tokenwire_sink, "Bergen")
    assert_streamed("chat-42", tools={"weather": {"city": "Bergen"}})


def test_the_agent_says_that_it_leaves(tokenwire_sink):
    with tokenwire_sink.watch("chat-42", types={"data"}) as watch:
        (source,) = [block for block in code_blocks(PAGE, "python") if "def main(sink" in block]
        namespace: dict[str, object] = {"__name__": "agent"}
        exec(compile(source, "docs/writing.md", "exec"), namespace)
        tokenwire_sink.input("chat-42", "quit")
        namespace["main"](tokenwire_sink)
        event = next(watch)
    assert isinstance(event, DataEvent)
    assert (event.name, event.data) == ("bye", {"reason": "asked to"})
