"""Replies that a test prescribes to the local provider, read by the real SDKs."""

import httpx
import pytest

from tests.support.provider import (
    CHAT_TOOLS,
    anthropic,
    chat_client,
    claude_client,
    clients,
    openai,
    user,
)
from tokenwire_adapters.testing.provider import ScriptedError, ScriptedReply, serve_in_thread

QUESTION = {"model": "m", "messages": user("hi")}
REPLY = ScriptedReply(
    text=["Let ", "me see."],
    reasoning="Hm.",
    tool_calls=[("get_weather", {"city": "São Paulo"}), ("broken", '{"city": ')],
)


@pytest.fixture(scope="module")
def provider():
    with serve_in_thread(pace=0) as provider:
        yield provider


@pytest.fixture(autouse=True)
def _close_clients(provider):
    with clients:
        yield
    assert provider.scripted == 0


@pytest.mark.parametrize("n", [1, 2])
def test_chat_completions(provider, n):
    provider.script(REPLY, REPLY)
    client = chat_client(provider)
    # What the request offers and limits does not matter.
    options = QUESTION | {"tools": CHAT_TOOLS, "max_completion_tokens": 1, "stop": "see", "n": n}
    for choice in client.chat.completions.create(**options).choices:
        assert choice.message.content == "Let me see."
        assert choice.message.reasoning_content == "Hm."
        calls = [call.function for call in choice.message.tool_calls]
        assert [call.name for call in calls] == ["get_weather", "broken"]
        assert [call.arguments for call in calls] == ['{"city":"São Paulo"}', '{"city": ']
        assert choice.finish_reason == "tool_calls"
    deltas = [
        choice.delta.content
        for chunk in client.chat.completions.create(**options, stream=True)
        for choice in chunk.choices
        if choice.index == 0 and choice.delta.content
    ]
    assert deltas == ["Let ", "me see."]
    assert provider.records[-1].text == "Let me see."


def test_responses(provider):
    provider.script(REPLY, ScriptedReply(text="Half of", finish="length"))
    client = chat_client(provider)
    reply = client.responses.create(model="m", input="hi")
    assert reply.output_text == "Let me see."
    assert [item.type for item in reply.output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    events = list(client.responses.create(model="m", input="hi", stream=True))
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == "Half of"


def test_messages(provider):
    provider.script(REPLY, ScriptedReply(tool_calls=[("now", {})]))
    client = claude_client(provider)
    reply = client.messages.create(**QUESTION, max_tokens=1)
    assert [block.type for block in reply.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert reply.content[2].input == {"city": "São Paulo"}
    with client.messages.stream(**QUESTION, max_tokens=1) as stream:
        assert stream.get_final_message().stop_reason == "tool_use"


def test_its_own_texts_come_back(provider):
    provider.script("Hello, world", "Bye")
    client = chat_client(provider)
    texts = [client.chat.completions.create(**QUESTION).choices[0].message.content for _ in "123"]
    assert texts[:2] == ["Hello, world", "Bye"]
    assert len(texts[2]) > 20
    client.models.list()  # asks no model, so it takes nothing from a script


def test_errors(provider):
    provider.script(
        ScriptedError(status=429, message="slow down", retry_after=1.5), ScriptedError(status=529)
    )
    refused = provider.counters.refused
    with pytest.raises(openai.RateLimitError, match="slow down") as raised:
        chat_client(provider).chat.completions.create(**QUESTION)
    assert raised.value.response.headers["retry-after"] == "1.5"
    with pytest.raises(anthropic.APIStatusError) as raised:
        claude_client(provider).messages.create(**QUESTION, max_tokens=1)
    assert raised.value.status_code == 529
    assert raised.value.body["error"]["type"] == "overloaded_error"
    assert provider.counters.refused == refused + 2


@pytest.mark.parametrize("after", [0, 1, 99])
def test_disconnects(provider, after):
    provider.script(*[ScriptedReply(text=["a", "b", "c"], disconnect_after=after)] * 2)
    client = chat_client(provider)
    received = ""
    with pytest.raises(httpx.RemoteProtocolError):
        for chunk in client.chat.completions.create(**QUESTION, stream=True):
            received += chunk.choices[0].delta.content or ""
            assert chunk.choices[0].finish_reason is None
    assert received == "abc"[:after]
    record = provider.records[-1]
    assert (record.wait(), record.sent_text) == ("disconnected", received)
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**QUESTION)
    assert provider.records[-1].wait() == "disconnected"


def test_bad_scripts():
    with pytest.raises(ValueError, match="disconnect_after"):
        ScriptedReply(disconnect_after=-1)
    with pytest.raises(ValueError, match="status"):
        ScriptedError(status=200)
