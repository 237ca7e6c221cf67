"""The local provider, asked by the real SDKs."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tokenwire_adapters
from tokenwire_adapters._provider import Limits, Provider, serve_in_thread
from tokenwire_adapters._provider._prose import compose, reason, tokenize
from tokenwire_adapters._provider._topics import TOPICS

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

ADAPTERS = Path(tokenwire_adapters.__file__).parents[1]
LONG = "tell me a long story"
# Long enough that no test sees the end of a LONG reply at this pace.
SLOW = 30.0
ODD = "naïve e\u0301 茶 👩🏽\u200d🍳 \u2028\u2029\x85 \u202eabc  <b>&amp; \\n \"'` \x00 \U0010fffd"

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city", "days"],
}
TIME = {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}}
QUESTION = "What is the weather in São Paulo for 4 days?"
CHAT_TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "get_time", "parameters": TIME}},
]
RESPONSES_TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": False},
    {"type": "function", "name": "get_time", "parameters": TIME, "strict": False},
]
ANTHROPIC_TOOLS = [
    {"name": "get_weather", "input_schema": WEATHER},
    {"name": "get_time", "input_schema": TIME},
]


def user(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def fast():
    with serve_in_thread(pace=0) as provider:
        yield provider


@pytest.fixture(scope="module")
def slow():
    with serve_in_thread(pace=SLOW) as provider:
        yield provider


@pytest.fixture(autouse=True)
def _close_clients():
    with _opened:
        yield


_opened = contextlib.ExitStack()


def opened(client):
    """Close the client at the end of the test."""
    return _opened.enter_context(client)


def chat_client(provider):
    return opened(openai.OpenAI(base_url=provider.base_url, api_key="unused", max_retries=0))


def async_chat_client(provider):
    return openai.AsyncOpenAI(base_url=provider.base_url, api_key="unused", max_retries=0)


def claude_client(provider):
    return opened(anthropic.Anthropic(base_url=provider.base_url, api_key="unused", max_retries=0))


def async_claude_client(provider):
    return anthropic.AsyncAnthropic(base_url=provider.base_url, api_key="unused", max_retries=0)


# ---------------------------------------------------------------- prose


@pytest.mark.parametrize(
    "text", [*(topic.text for topic in TOPICS), ODD, reason(ODD), "", " ", "\n"]
)
def test_tokens_join_to_the_text(text):
    assert "".join(tokenize(text)) == text


def test_prose_is_like_a_models():
    tokens = [token for topic in TOPICS for token in tokenize(topic.text)]
    assert max(map(len, tokens)) <= 12
    assert sum(token.startswith(" ") for token in tokens) > len(tokens) / 4
    everything = "".join(topic.text for topic in TOPICS)
    for sign in (
        "\n# ",
        "\n## ",
        "\n1. ",
        "\n   - ",
        "```",
        "| --- |",
        "👩🏽\u200d🍳",
        "茶",
        "é",
        "\u0301",
    ):
        assert sign in "\n" + everything, sign


def test_prose_is_deterministic_and_varied():
    assert compose("anything") == compose("anything")
    assert len({compose(f"prompt {n}") for n in range(40)}) > 20
    assert compose("a story") != compose("a story", choice=1)
    assert "[[" not in "".join(compose(f"{topic.name} please") for topic in TOPICS)
    assert "lighthouse" in compose("Tell me a story, please!")


# ---------------------------------------------------------------- Chat Completions


def test_chat_stream_equals_the_whole(fast):
    client = chat_client(fast)
    request = {"model": "local-writer", "messages": user("Explain streaming")}
    chunks = list(
        client.chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    record = fast.record(chunks[0].id)
    assert record.wait() == "complete"
    assert text == record.text == record.sent_text
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == record.tokens_sent == record.tokens_planned
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[0].choices[0].delta.role == "assistant"

    whole = client.chat.completions.create(**request)
    assert whole.choices[0].message.content == text
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage == chunks[-1].usage
    assert fast.record(whole.id).wait() == "complete"


async def test_chat_async_in_the_same_loop():
    async with Provider(pace=0) as provider, async_chat_client(provider) as client:
        stream = await client.chat.completions.create(
            model="local-reasoner", messages=user(ODD), stream=True
        )
        text, thoughts = "", ""
        async for chunk in stream:
            delta = chunk.choices[0].delta
            text += delta.content or ""
            thoughts += getattr(delta, "reasoning_content", None) or ""
        (record,) = provider.records
        assert await record.wait_async() == "complete"
        assert (text, thoughts) == (record.text, record.reasoning)
        assert "naïve" in thoughts
        assert provider.counters.running == 0
        assert provider.counters.tokens_sent == record.tokens_planned

        whole = await client.chat.completions.create(model="local-reasoner", messages=user(ODD))
        assert whole.choices[0].message.content == text
        assert whole.choices[0].message.model_extra["reasoning_content"] == thoughts


def test_chat_helper_with_several_choices(fast):
    request = {"model": "local-writer", "messages": user("a recipe"), "n": 3}
    order, texts = [], ["", "", ""]
    with chat_client(fast).chat.completions.stream(**request) as stream:
        for event in stream:
            if event.type == "chunk":
                for choice in event.chunk.choices:
                    order.append(choice.index)
                    texts[choice.index] += choice.delta.content or ""
        final = stream.get_final_completion()
    record = fast.record(final.id)
    assert [choice.message.content for choice in final.choices] == texts
    assert [record.planned(choice=index) for index in range(3)] == texts
    assert len(set(texts)) == 3
    assert order[3:9] == [0, 1, 2, 0, 1, 2]
    assert [choice.finish_reason for choice in final.choices] == ["stop"] * 3


def test_chat_tools_then_answer(fast):
    client = chat_client(fast)
    messages = user(QUESTION)
    request = {"model": "local-writer", "tools": CHAT_TOOLS}
    with client.chat.completions.stream(messages=messages, **request) as stream:
        message = stream.get_final_completion().choices[0].message
    assert not message.content
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "São Paulo", "days": 4}
    record = fast.records[-1]
    assert record.planned("tool") == call.function.arguments
    assert call.id.endswith(record.tool_calls[0].id)

    whole = client.chat.completions.create(messages=messages, **request)
    (again,) = whole.choices[0].message.tool_calls
    assert whole.choices[0].finish_reason == "tool_calls"
    assert again.function.arguments == call.function.arguments
    messages += [
        whole.choices[0].message,
        {"role": "tool", "tool_call_id": again.id, "content": ODD},
    ]
    answer = client.chat.completions.create(messages=messages, **request)
    assert ODD in answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
    messages += [answer.choices[0].message, *user("And the weather and time?")]
    both = client.chat.completions.create(messages=messages, **request).choices[0].message
    assert [call.function.name for call in both.tool_calls] == ["get_weather", "get_time"]
    one = client.chat.completions.create(messages=messages, parallel_tool_calls=False, **request)
    assert len(one.choices[0].message.tool_calls) == 1


def test_chat_parallel_calls_stream(fast):
    stream = chat_client(fast).chat.completions.create(
        model="m", messages=user("weather and time"), tools=CHAT_TOOLS, stream=True
    )
    names, arguments = {}, {}
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            if call.id:
                names[call.index] = call.function.name
            arguments[call.index] = arguments.get(call.index, "") + call.function.arguments
    assert names == {0: "get_weather", 1: "get_time"}
    assert json.loads(arguments[1]) == {"zone": "UTC"}
    assert fast.records[-1].planned("tool", call=1) == arguments[1]


def test_chat_tool_choice(fast):
    create = chat_client(fast).chat.completions.create

    def ask(choice, messages):
        reply = create(model="m", messages=messages, tools=CHAT_TOOLS, tool_choice=choice)
        return reply.choices[0].message

    assert ask("none", user(QUESTION)).tool_calls is None
    named = {"type": "function", "function": {"name": "get_time"}}
    assert [c.function.name for c in ask(named, user(QUESTION)).tool_calls] == ["get_time"]
    # A loop that always requires a tool comes to each of them, then to an end.
    messages, names = user(QUESTION), []
    while calls := (message := ask("required", messages)).tool_calls:
        names += [call.function.name for call in calls]
        results = [{"role": "tool", "tool_call_id": c.id, "content": "ok"} for c in calls]
        messages = [*messages, message, *results]
    assert names == ["get_weather", "get_time"]
    with pytest.raises(openai.BadRequestError, match="no_such"):
        ask({"type": "function", "function": {"name": "no_such"}}, user("x"))


def test_structured_output_parses(fast):
    from pydantic import BaseModel

    class Step(BaseModel):
        title: str
        minutes: int | None

    class Recipe(BaseModel):
        name: str
        steps: list[Step]
        vegetarian: bool

    client = chat_client(fast)
    chat = client.chat.completions.parse(model="m", messages=user("a tart"), response_format=Recipe)
    assert chat.choices[0].message.parsed.steps[0].title == "a tart"
    response = client.responses.parse(model="m", input="a tart", text_format=Recipe)
    assert response.output_parsed == chat.choices[0].message.parsed


@pytest.mark.parametrize("stream", [False, True])
def test_chat_limits(fast, stream):
    client = chat_client(fast)

    def ask(**options):
        reply = client.chat.completions.create(
            model="m", messages=user(LONG), stream=stream, **options
        )
        if not stream:
            return reply.choices[0].message.content, reply.choices[0].finish_reason
        chunks = list(reply)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return text, chunks[-1].choices[0].finish_reason

    text, _ = ask()
    short, finish = ask(max_tokens=7)
    assert (short, finish) == ("".join(tokenize(text)[:7]), "length")
    assert ask(stop=["lighthouse"]) == (text.partition("lighthouse")[0], "stop")


# ---------------------------------------------------------------- Responses


def test_responses_stream_equals_the_whole(fast):
    client = chat_client(fast)
    request = {"model": "local-reasoner", "input": user("Explain tea")}
    events = list(client.responses.create(**request, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    thoughts = "".join(e.delta for e in events if e.type == "response.reasoning_summary_text.delta")
    final = events[-1].response
    assert events[-1].type == "response.completed"
    record = fast.record(final.id)
    assert record.wait() == "complete"
    assert text == final.output_text == record.text
    assert thoughts == final.output[0].summary[0].text == record.reasoning
    assert final.usage.output_tokens == record.tokens_sent

    with client.responses.stream(model="local-reasoner", input="Explain tea") as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == text
    whole = client.responses.create(**request)
    assert whole.output_text == text
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.usage == final.usage
    assert whole.status == "completed"


async def test_responses_tools_then_answer_async():
    async with Provider(pace=0) as provider, async_chat_client(provider) as client:
        request = {"model": "local-writer", "tools": RESPONSES_TOOLS}
        async with client.responses.stream(input=QUESTION, **request) as stream:
            first = await stream.get_final_response()
        (call,) = first.output
        assert (call.type, call.name) == ("function_call", "get_weather")
        assert json.loads(call.arguments) == {"city": "São Paulo", "days": 4}
        result = {"type": "function_call_output", "call_id": call.call_id, "output": ODD}
        talk = [*user(QUESTION), call.model_dump(exclude_none=True), result]
        stream = await client.responses.create(input=talk, stream=True, **request)
        text = "".join(
            [event.delta async for event in stream if event.type == "response.output_text.delta"]
        )
        assert ODD in text
        # The conversation may be on the server's side: then only the result comes.
        last = await client.responses.create(
            input=[result], previous_response_id=first.id, **request
        )
        assert ODD in last.output_text
        assert last.previous_response_id == first.id


def test_responses_limit(fast):
    client = chat_client(fast)
    with client.responses.stream(model="m", input=LONG, max_output_tokens=9) as stream:
        events = list(stream)
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"
    whole = client.responses.create(model="m", input=LONG, max_output_tokens=9)
    assert whole.status == whole.output[0].status == "incomplete"
    assert whole.output_text == events[-1].response.output_text == fast.records[-1].text


# ---------------------------------------------------------------- Anthropic Messages


def test_messages_stream_equals_the_whole(fast):
    client = claude_client(fast)
    request = {"model": "local-reasoner", "max_tokens": 4000, "messages": user("the night sky")}
    raw = list(client.messages.create(**request, stream=True))
    deltas = [event.delta for event in raw if event.type == "content_block_delta"]
    text = "".join(delta.text for delta in deltas if delta.type == "text_delta")
    thoughts = "".join(delta.thinking for delta in deltas if delta.type == "thinking_delta")
    record = fast.record(raw[0].message.id)
    assert record.wait() == "complete"
    assert (text, thoughts) == (record.text, record.reasoning)
    assert [event.type for event in raw[-3:]] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]

    with client.messages.stream(**request) as stream:
        assert "".join(stream.text_stream) == text
        final = stream.get_final_message()
    whole = client.messages.create(**request)
    for message in (final, whole):
        thinking, block = message.content
        assert (thinking.thinking, block.text) == (thoughts, text)
        assert thinking.signature
        assert message.stop_reason == "end_turn"
        assert message.usage.output_tokens == record.tokens_planned


async def test_messages_tools_then_answer_async():
    async with Provider(pace=0) as provider, async_claude_client(provider) as client:
        request = {"model": "local-writer", "max_tokens": 4000, "tools": ANTHROPIC_TOOLS}
        async with client.messages.stream(messages=user(QUESTION), **request) as stream:
            first = await stream.get_final_message()
        preface, call = first.content
        assert first.stop_reason == "tool_use"
        assert preface.text
        assert (call.name, call.input) == ("get_weather", {"city": "São Paulo", "days": 4})
        whole = await client.messages.create(messages=user(QUESTION), **request)
        assert whole.content[1].input == call.input
        result = {"type": "tool_result", "tool_use_id": call.id, "content": ODD}
        talk = [
            *user(QUESTION),
            {"role": "assistant", "content": [block.model_dump() for block in first.content]},
            {"role": "user", "content": [result]},
        ]
        async with client.messages.stream(messages=talk, **request) as stream:
            assert ODD in await stream.get_final_text()
        none = await client.messages.create(
            messages=user(QUESTION), tool_choice={"type": "none"}, **request
        )
        assert [block.type for block in none.content] == ["text"]
        named = await client.messages.create(
            messages=user("x"), tool_choice={"type": "tool", "name": "get_time"}, **request
        )
        assert named.content[1].name == "get_time"


def test_messages_limits(fast):
    client = claude_client(fast)
    for stream in (False, True):

        def ask(stream=stream, **options):
            request = {"model": "m", "messages": user(LONG), "max_tokens": 4000, **options}
            if not stream:
                return client.messages.create(**request)
            with client.messages.stream(**request) as events:
                return events.get_final_message()

        text = ask().content[0].text
        cut = ask(max_tokens=5)
        assert (cut.content[0].text, cut.stop_reason) == ("".join(tokenize(text)[:5]), "max_tokens")
        stopped = ask(stop_sequences=["lamp"])
        assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "lamp")
        assert stopped.content[0].text == text.partition("lamp")[0]
    thinking = {"type": "enabled", "budget_tokens": 1024}
    message = client.messages.create(
        model="m", messages=user("hi"), max_tokens=4000, thinking=thinking
    )
    assert [block.type for block in message.content] == ["thinking", "text"]


# ---------------------------------------------------------------- clients that leave


def check_left(record, seen):
    assert record.wait() == "closed_early"
    assert record.closed_early
    assert record.tokens_sent < record.tokens_planned
    assert record.sent_text.startswith(seen)
    assert record.text.startswith(record.sent_text)


def test_closing_a_chat_stream_is_noticed(slow):
    before = slow.counters.closed_early
    stream = chat_client(slow).chat.completions.create(model="m", messages=user(LONG), stream=True)
    seen = ""
    for chunk in stream:
        seen += chunk.choices[0].delta.content or ""
        if len(seen) > 10:
            break
    stream.close()
    check_left(slow.record(chunk.id), seen)
    assert slow.counters.closed_early == before + 1


def test_leaving_a_responses_helper_is_noticed(slow):
    seen = ""
    with chat_client(slow).responses.stream(model="m", input=LONG) as stream:
        for event in stream:
            if event.type == "response.created":
                record = slow.record(event.response.id)
            if event.type == "response.output_text.delta":
                seen += event.delta
                if len(seen) > 10:
                    break
    check_left(record, seen)


def test_leaving_a_messages_helper_is_noticed(slow):
    seen = ""
    request = {"model": "m", "max_tokens": 4000, "messages": user(LONG)}
    with claude_client(slow).messages.stream(**request) as stream:
        for text in stream.text_stream:
            seen += text
            if len(seen) > 10:
                break
        record = slow.record(stream.current_message_snapshot.id)
    check_left(record, seen)


async def test_a_cancelled_task_is_noticed():
    async with Provider(pace=SLOW) as provider, async_chat_client(provider) as client:
        seen = []
        enough = asyncio.Event()

        async def read():
            stream = await client.chat.completions.create(
                model="m", messages=user(LONG), stream=True
            )
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content or "")
                if len(seen) == 5:
                    enough.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(enough.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (record,) = provider.records
        assert await record.wait_async() == "closed_early"
        assert record.sent_text.startswith("".join(seen))


async def test_leaving_a_request_that_does_not_stream_is_noticed():
    async with Provider(pace=SLOW) as provider, async_chat_client(provider) as client:
        task = asyncio.create_task(client.chat.completions.create(model="m", messages=user(LONG)))
        record = await provider.wait_for_replies_async(1)
        assert (record.stream, record.tokens_sent) == (False, 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await record.wait_async() == "closed_early"


async def test_a_slow_close_does_not_wait_for_the_next_token():
    # One token in ten minutes: only the close itself can end this in time.
    async with Provider(pace=1 / 600) as provider, async_chat_client(provider) as client:
        stream = await client.chat.completions.create(model="m", messages=user(LONG), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.response.aclose()
        (record,) = provider.records
        assert await record.wait_async() == "closed_early"
        assert record.tokens_sent == 1


async def test_closing_the_provider_ends_its_replies():
    provider = Provider(pace=SLOW)
    async with provider, async_chat_client(provider) as client:
        stream = await client.chat.completions.create(model="m", messages=user(LONG), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await provider.aclose()
        with pytest.raises(Exception, match=r"(?i)connection|peer|incomplete"):
            async for _ in stream:
                pass
    assert provider.records[0].outcome == "stopped"
    assert provider.counters.running == 0


def test_pace_is_kept(slow):
    # Only a lower bound: a busy machine may always be slower.
    began = time.monotonic()
    stream = chat_client(slow).chat.completions.create(
        model="m", messages=user(LONG), stream=True, max_tokens=10
    )
    assert len([c for c in stream if c.choices[0].delta.content]) == 10
    assert time.monotonic() - began >= 9 / SLOW * 0.95


def test_length_is_exact():
    for length in (1, 700):
        with serve_in_thread(pace=0, length=length) as provider:
            reply = chat_client(provider).chat.completions.create(model="m", messages=user("hi"))
            assert reply.usage.completion_tokens == length
            assert reply.choices[0].message.content == provider.records[-1].text


# ---------------------------------------------------------------- errors and bounds


def raw(provider, request, *, half_close=False):
    """Send bytes, return the status and the body of the answer."""
    with socket.create_connection(("127.0.0.1", provider.port), timeout=60) as client:
        client.sendall(request)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        data = b""
        while piece := client.recv(65536):
            data += piece
    if not data:
        return None, None
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


def post(path, body, *headers):
    lines = [f"POST {path} HTTP/1.1", "connection: close", f"content-length: {len(body)}", *headers]
    return "\r\n".join((*lines, "", "")).encode() + body


def test_models(fast):
    names = {"local-writer", "local-reasoner"}
    client = chat_client(fast)
    assert {model.id for model in client.models.list()} == names
    assert client.models.retrieve("local-writer").id == "local-writer"
    assert {model.id for model in claude_client(fast).models.list()} == names
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-0")


def test_base_urls_with_and_without_version(fast):
    root = f"http://127.0.0.1:{fast.port}"
    for base_url in (root, f"{root}/v1"):
        chat = opened(openai.OpenAI(base_url=base_url, api_key="unused"))
        assert chat.chat.completions.create(model="m", messages=user("hi")).choices
        claude = opened(anthropic.Anthropic(base_url=base_url, api_key="unused"))
        assert claude.messages.create(model="m", max_tokens=9, messages=user("hi")).content
    azure = opened(
        openai.AzureOpenAI(azure_endpoint=root, api_key="unused", api_version="2024-10-21")
    )
    assert azure.chat.completions.create(model="m", messages=user("hi")).choices


def test_bad_requests_in_the_shape_of_their_api(fast):
    refused = fast.counters.refused
    client, claude = chat_client(fast), claude_client(fast)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=[])
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=user("x"), n=99)
    assert caught.value.param == "n"
    with pytest.raises(openai.BadRequestError, match="input"):
        client.responses.create(model="m", input=[])
    with pytest.raises(openai.NotFoundError, match="/v1/embeddings"):
        client.embeddings.create(model="m", input="x")
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(model="", max_tokens=9, messages=user("x"))
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model="m", messages=user("x"))
    assert fast.counters.refused == refused + 6
    status, body = raw(fast, post("/v1/messages", b"{nope"))
    assert (status, body["type"]) == (400, "error")
    status, body = raw(fast, post("/v1/chat/completions", b"{nope"))
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


def test_a_key_can_be_required():
    with serve_in_thread(require_key=True, pace=0) as provider:
        status, body = raw(provider, post("/v1/chat/completions", b"{}"))
        assert (status, body["error"]["type"]) == (401, "authentication_error")
        status, body = raw(provider, post("/v1/messages", b"{}"))
        assert (status, body["error"]["type"]) == (401, "authentication_error")
        reply = chat_client(provider).chat.completions.create(model="m", messages=user("hi"))
        assert reply.choices
        assert claude_client(provider).messages.create(model="m", max_tokens=9, messages=user("hi"))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /v1/models HTTP/2.0\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nbad : name\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\ncontent-length: \xb2\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"POST /v1/responses HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /v1/responses HTTP/1.1\r\ncontent-length: 100001\r\n\r\n", 413),
        (b"POST /v1/responses HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET /v1/responses HTTP/1.0\r\n\r\n", 405),
        (b"DELETE /v1/models HTTP/1.0\r\n\r\n", 405),
        (b"GET /v1/chat/completions/x HTTP/1.0\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\n\r\n", 404),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 100\r\n\r\n{", None),
        (b"", None),
    ],
)
def test_malformed_and_oversized_requests(request_bytes, status):
    with serve_in_thread(limits=Limits(body=100_000)) as provider:
        cut = status is None
        answered, body = raw(provider, request_bytes, half_close=cut)
        assert answered == status
        assert cut or body["error"]["message"]
        assert not provider.records


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"x"',
        b'{"model": 1}',
        b'{"model": "m", "messages": "x"}',
        b'{"model": "m", "messages": [1]}',
        b'{"model": "m", "messages": [{}], "stream": "yes"}',
        b'{"model": "m", "messages": [{}], "max_tokens": -1}',
        b'{"model": "m", "messages": [{}], "n": true}',
        b'{"model": "m", "messages": [{}], "tools": [' + b"1," * 200 + b"1]}",
        b"[" * 90_000,
        b"\xff\xfe",
        b'{"model": "m", "messages": [{}], "x": NaN}',
        b'{"model": "m", "messages": [{}], "x": 1e999}',
    ],
)
def test_bodies_that_are_not_requests(fast, body):
    status, answer = raw(fast, post("/v1/chat/completions", body))
    assert status == 400
    assert answer["error"]["message"]


def test_hostile_values_still_get_a_reply(fast):
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "lone \ud800 surrogate, 1e400 9e999"}],
        "tools": [
            {"type": "function", "function": {"name": "\ud801 tree", "parameters": tree}},
            {"type": "function", "function": {"name": "b", "parameters": {"$ref": "#/x/y"}}},
            {"type": "function", "function": {"name": "c", "parameters": {"type": 7, "enum": 3}}},
        ],
    }
    for path in ("/v1/chat/completions", "/v1/responses"):
        request = {**body, "input": body["messages"]}
        status, answer = raw(fast, post(path, json.dumps(request).encode()))
        assert (status, answer["model"]) == (200, "m")


def test_one_connection_serves_many_requests(fast):
    request = post(
        "/v1/chat/completions", json.dumps({"model": "m", "messages": user("hi")}).encode()
    )
    with socket.create_connection(("127.0.0.1", fast.port), timeout=60) as client:
        keep = request.replace(b"connection: close\r\n", b"")
        client.sendall(keep + keep + request)  # the second and third come before they are asked for
        data = b""
        while piece := client.recv(65536):
            data += piece
    assert data.count(b"HTTP/1.1 200 OK") == 3


def test_http_1_0_streams_until_the_end_of_the_connection(fast):
    body = json.dumps({"model": "m", "messages": user("hi"), "stream": True}).encode()
    request = post("/v1/chat/completions", body).replace(b"HTTP/1.1", b"HTTP/1.0")
    with socket.create_connection(("127.0.0.1", fast.port), timeout=60) as client:
        client.sendall(request)
        data = b""
        while piece := client.recv(65536):
            data += piece
    assert b"transfer-encoding" not in data
    assert data.endswith(b"data: [DONE]\n\n")


def test_bad_options():
    with pytest.raises(ValueError, match="pace"):
        Provider(pace=-1)
    with serve_in_thread() as provider, pytest.raises(OSError), serve_in_thread(port=provider.port):
        pass
    with pytest.raises(LookupError):
        provider.record("nope")
    with pytest.raises(TimeoutError):
        provider.wait_for_replies(1, timeout=0)


def test_records_are_bounded():
    with serve_in_thread(pace=0, keep=2) as provider:
        for _ in range(3):
            chat_client(provider).chat.completions.create(model="m", messages=user("hi"))
        assert len(provider.records) == 2
        provider.wait_for_replies(3, timeout=0)


# ---------------------------------------------------------------- as a program


def test_it_needs_the_standard_library_alone():
    code = (
        f"import sys; sys.path.insert(0, {str(ADAPTERS)!r}); import tokenwire_adapters._provider;"
        "print({n.partition('.')[0] for n in sys.modules} - sys.stdlib_module_names)"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert out.stdout.strip() in (
        "{'tokenwire_adapters', '__main__'}",
        "{'__main__', 'tokenwire_adapters'}",
        "{'tokenwire_adapters'}",
    )


def test_run_as_a_module():
    program = subprocess.Popen(
        [sys.executable, "-m", "tokenwire_adapters._provider", "--port", "0", "--pace", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ADAPTERS)},
    )
    try:
        base_url = program.stdout.readline().strip()
        client = opened(openai.OpenAI(base_url=base_url, api_key="unused"))
        assert client.chat.completions.create(model="m", messages=user("hi")).choices
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
