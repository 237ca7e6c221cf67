"""Tests of an agent: its code and its SDK are real, the model is scripted, the backend is a memory.

pip install "tokenwire[pytest,openai]"
pytest examples/testing_an_agent
"""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tokenwire.testing import Publish, assert_nothing_streamed, assert_streamed
from tokenwire_adapters.testing.provider import ScriptedError, ScriptedReply

from . import agent


def test_it_calls_its_tool_and_answers(tokenwire_sink: Any, tokenwire_provider: Any) -> None:
    tokenwire_provider.script(
        ScriptedReply(tool_calls=[("get_weather", {"city": "Oslo"})]), "It is sunny."
    )
    assert agent.run("What is the weather in Oslo?", "chat-42") == "It is sunny."
    assert_streamed("chat-42", text="It is sunny.")
    called = tokenwire_sink.history("chat-42").items[-1]
    assert_streamed("chat-42", response_id=called.id, tools={"get_weather": {"city": "Oslo"}})
    with tokenwire_sink.watch("chat-42", rewind="all", types={"tool_result"}) as watch:
        assert next(watch).output == "sunny in Oslo"


@pytest.mark.usefixtures("tokenwire_sink")
def test_pages_see_that_the_provider_failed(tokenwire_provider: Any) -> None:
    tokenwire_provider.script(ScriptedError(status=400, message="no such model"))
    with pytest.raises(openai.BadRequestError):
        agent.run("Hello?", "chat-42")
    assert_streamed("chat-42", ended="failed", text="")
    assert_nothing_streamed("chat-43")


@pytest.mark.usefixtures("tokenwire_sink")
def test_it_does_not_notice_a_backend_that_loses_replies(
    tokenwire_provider: Any, tokenwire_faults: Any
) -> None:
    tokenwire_faults.publish(Publish.LOSE_REPLY, Publish.REJECT)
    tokenwire_provider.script("Still here.")
    assert agent.run("Are you there?", "chat-42") == "Still here."
    assert_streamed("chat-42", text="Still here.")
