"""The local provider with the real SDKs: every reply in the format of each API."""

import json

import pytest

from tests.support.provider import (
    ANTHROPIC_TOOLS,
    CHAT_TOOLS,
    LONG,
    ODD,
    QUESTION,
    RESPONSES_TOOLS,
    async_chat_client,
    async_claude_client,
    chat_client,
    claude_client,
    clients,
    openai,
    user,
)
from tokenwire_adapters.testing.provider import Provider, serve_in_thread
from tokenwire_adapters.testing.provider._canned_text import TOPICS
from tokenwire_adapters.testing.provider._text import compose, reason, tokenize


@pytest.fixture(scope="module")
def fast():
    with serve_in_thread(pace=0) as provider:
        yield provider


@pytest.fixture(autouse=True)
def _close_clients():
    with clients:
        yield


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
    # A loop that always requires a tool calls each of them once, then ends.
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
