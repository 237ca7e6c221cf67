"""Pages with Ably's AI Transport are told which tools the provider runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.ably.places import sink
from tests.adapters.ably.test_backend_pages import Page
from tests.adapters.ably.test_dialect_pages import asked
from tokenwire_adapters.testing.ably import ServerThread, Settings


@pytest.fixture
def thread() -> Iterator[ServerThread]:
    with ServerThread(settings=Settings(inbound_rate=None)) as thread:
        yield thread


def test_who_runs_a_tool(thread: ServerThread) -> None:
    page = Page(thread, "dialect.cjs", 22)
    try:
        with sink(thread, rate=0, retry=0.05, dialect="ai-transport") as agent:
            page.do("open", "user", "now")
            page.do("ask", "user", "What is new?")
            metadata = {"input": asked(agent).id}
            with agent.respond("ai:chat", response_id="r", metadata=metadata) as response:
                response.tool_call("web_search", "call-1", '{"q": "x"}', provider_executed=True)
                response.tool_result("call-1", ["found"])
                response.tool_call("weather", "call-2", '{"city": "Oslo"}')
                response.tool_result("call-2", 4)
                response.write("Found.")
            assert response.wait(60).status in ("delivered", "recovered")
            page.do("status", "user", "complete")
            page.do("text", "user", "Found.")
            messages = page.do("messages", "user")
    finally:
        page.close()
    tools = {
        part["toolCallId"]: (part["state"], part.get("providerExecuted", False))
        for part in messages[-1]["parts"]
        if "toolCallId" in part
    }
    assert tools == {"call-1": ("output-available", True), "call-2": ("output-available", False)}
