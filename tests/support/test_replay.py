"""The replay server and the recordings, read by the real SDKs."""

import asyncio
import contextlib
import itertools
import json

import pytest

from tests.support.needs import needs
from tests.support.recordings import OWN, load, named, parameters
from tests.support.replay import Gate, Replay, Reply, split_events

openai = needs("openai")
anthropic = needs("anthropic")

_opened = contextlib.ExitStack()


@pytest.fixture(autouse=True)
def _close_clients():
    with _opened:
        yield


def opened(client):
    """Close the client at the end of the test."""
    return _opened.enter_context(client)


TALK = [{"role": "user", "content": "x"}]


def chat_stream(replay, **options):
    client = opened(openai.OpenAI(base_url=replay.base_url, api_key="unused", max_retries=0))
    return client.chat.completions.create(model="m", messages=TALK, stream=True, **options)


class Seen:
    """What an SDK made of a stream: the fields of `Expected`."""

    def __init__(self):
        self.texts, self.finishes, self.arguments = {}, {}, {}
        self.reasoning = self.refusal = ""
        self.usage = self.error = None

    def add(self, store, key, piece):
        store[key] = store.get(key, "") + (piece or "")

    def chat(self, replay):
        try:
            for chunk in chat_stream(replay):
                self.usage = chunk.usage or self.usage
                for choice in chunk.choices:
                    delta, extra = choice.delta, choice.delta.model_extra or {}
                    self.add(self.texts, choice.index, delta.content)
                    self.refusal += delta.refusal or ""
                    self.reasoning += extra.get("reasoning_content") or extra.get("reasoning") or ""
                    for call in delta.tool_calls or ():
                        self.add(
                            self.arguments, (choice.index, call.index), call.function.arguments
                        )
                    if choice.finish_reason:
                        self.finishes[choice.index] = choice.finish_reason
        except openai.APIError as error:
            self.error = error.message

    def responses(self, replay):
        client = opened(openai.OpenAI(base_url=replay.base_url, api_key="unused", max_retries=0))
        for event in client.responses.create(model="m", input="x", stream=True):
            match event.type:
                case "response.output_text.delta":
                    self.add(self.texts, 0, event.delta)
                case "response.refusal.delta":
                    self.refusal += event.delta
                case "response.reasoning_summary_text.delta":
                    self.reasoning += event.delta
                case "response.function_call_arguments.delta" | "response.mcp_call_arguments.delta":
                    self.add(self.arguments, event.output_index, event.delta)
                case "response.completed" | "response.failed" | "response.incomplete":
                    self.finishes[0] = event.response.status
                    self.usage = event.response.usage
                    self.error = event.response.error and event.response.error.message
                case "error":
                    self.error = event.message

    def anthropic(self, replay):
        client = opened(
            anthropic.Anthropic(base_url=replay.root_url, api_key="unused", max_retries=0)
        )
        try:
            for event in client.messages.create(
                model="m", max_tokens=9, messages=TALK, stream=True
            ):
                if event.type == "content_block_delta":
                    delta = event.delta
                    match delta.type:
                        case "text_delta":
                            self.add(self.texts, 0, delta.text)
                        case "thinking_delta":
                            self.reasoning += delta.thinking
                        case "input_json_delta":
                            self.add(self.arguments, event.index, delta.partial_json)
                elif event.type == "message_delta":
                    self.finishes[0] = event.delta.stop_reason
        except anthropic.APIError as error:
            self.error = error.body["error"]["message"]


@pytest.mark.parametrize("cuts", [None, 0, 1], ids=["whole", "cut0", "cut1"])
@pytest.mark.parametrize("recording", parameters())
def test_the_sdk_reads_what_the_index_says(recording, cuts):
    seen = Seen()
    with Replay(Reply(recording.body, cuts=cuts)) as replay:
        getattr(seen, recording.api)(replay)
    expected = recording.expected
    assert seen.texts.get(0, "") == expected.text
    assert seen.error == expected.error
    assert seen.finishes.get(0) == expected.finish
    assert [each for each in seen.arguments.values() if each] == expected.tool_arguments
    assert seen.reasoning == expected.reasoning
    assert seen.refusal == expected.refusal
    if expected.texts:
        assert [seen.texts[i] for i in sorted(seen.texts)] == expected.texts
        assert [seen.finishes[i] for i in sorted(seen.finishes)] == expected.finishes
    if recording.api != "anthropic" and expected.usage and not expected.error:
        assert seen.usage.total_tokens == expected.usage["total_tokens"]


@pytest.mark.parametrize("recording", load(OWN, "anthropic"), ids=lambda each: each.name)
def test_the_helper_accumulates(recording):
    expected = recording.expected
    with Replay(recording.body) as replay:
        client = opened(
            anthropic.Anthropic(base_url=replay.root_url, api_key="unused", max_retries=0)
        )
        with client.messages.stream(model="m", max_tokens=9, messages=TALK) as stream:
            if expected.error:
                with pytest.raises(anthropic.APIError, match=expected.error):
                    stream.until_done()
                return
            message = stream.get_final_message()
    assert "".join(b.text for b in message.content if b.type == "text") == expected.text
    citations = [c.cited_text for b in message.content for c in getattr(b, "citations", None) or ()]
    assert citations == expected.citations
    inputs = [block.input for block in message.content if block.type == "tool_use"]
    assert inputs == [json.loads(each) for each in expected.tool_arguments]
    assert message.usage.output_tokens == expected.usage["output_tokens"]


@pytest.mark.parametrize("recording", load(OWN, "responses"), ids=lambda each: each.name)
def test_the_responses_helper_accumulates(recording):
    expected = recording.expected
    with Replay(recording.body) as replay:
        client = opened(openai.OpenAI(base_url=replay.base_url, api_key="unused", max_retries=0))
        with client.responses.stream(model="m", input="x") as stream:
            for _ in stream:
                pass
            if expected.finish == "completed":
                final = stream.get_final_response()
                assert final.output_text == expected.text
                reasoning = [i.summary for i in final.output if i.type == "reasoning"]
                parts = [part.text for part in itertools.chain(*reasoning)]
                assert parts == expected.reasoning_parts


@pytest.mark.parametrize("recording", parameters())
def test_events_are_counted_and_join_to_the_body(recording):
    events = split_events(recording.body)
    assert b"".join(events) == recording.body
    with_data = [e for e in events if any(line.startswith(b"data:") for line in e.splitlines())]
    assert len(with_data) == recording.events


def test_split_events_keeps_a_torn_tail():
    assert split_events(b"data: 1\r\n\r\ndata: 2\n\ndata: 3\r\rdata: to") == [
        b"data: 1\r\n\r\n",
        b"data: 2\n\n",
        b"data: 3\r\r",
        b"data: to",
    ]
    assert split_events(b"") == []


def test_the_gate_decides_when_events_leave():
    gate = Gate()
    with Replay(Reply(named("chat-text").body, gate=gate)) as replay:
        stream = chat_stream(replay)  # the headers are not held back
        assert replay.exchanges[0].events_sent == 0
        gate.release(2)
        texts = [next(stream).choices[0].delta.content for _ in range(2)]
        assert texts == ["", "Café"]
        assert replay.wait_sent(2).events_sent == 2
        gate.open()
        rest = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert "Café" + rest == named("chat-text").expected.text


def test_closing_behind_a_gate_is_noticed():
    gate = Gate(released=3)
    with Replay(Reply(named("chat-text").body, gate=gate)) as replay:
        with chat_stream(replay) as stream:
            next(stream)
            replay.wait_sent(3)
        exchange = replay.wait_closed_early()
    assert (exchange.outcome, exchange.events_sent) == ("closed_early", 3)


async def test_closing_behind_a_gate_is_noticed_async():
    async with Replay(Reply(named("chat-text").body, gate=Gate(released=1))) as replay:
        client = openai.AsyncOpenAI(base_url=replay.base_url, api_key="unused", max_retries=0)
        stream = await client.chat.completions.create(model="m", messages=TALK, stream=True)
        reader = asyncio.create_task(anext(stream))
        await reader
        waiting = asyncio.create_task(replay.wait_closed_early_async())
        await stream.close()
        assert (await waiting).events_sent == 1
        await client.close()


def test_reading_to_the_end_is_complete():
    with Replay(named("chat-text").body) as replay:
        list(chat_stream(replay))
        replay.wait(lambda: replay.exchanges[0].outcome != "running")
        assert replay.exchanges[0].outcome == "complete"
        assert replay.exchanges[0].events_sent == len(split_events(named("chat-text").body))
        with pytest.raises(TimeoutError, match="complete"):
            replay.wait_closed_early(timeout=0)


@pytest.mark.parametrize("extra", [0, 20])
def test_the_connection_drops_midway(extra):
    seen = []

    def read(replay):
        seen.extend(chunk.choices[0].delta.content for chunk in chat_stream(replay))

    with Replay(Reply(named("chat-text").body, drop_after=3, drop_bytes=extra)) as replay:
        # openai 3 raises an error of its own, openai 2 that of httpx.
        with pytest.raises(Exception, match=r"(?i)incomplete|peer|connection"):
            read(replay)
        assert seen == ["", "Café", " naïve"]
        replay.wait(lambda: replay.exchanges[0].outcome == "dropped")


def test_errors_then_retry():
    refusal = json.dumps({"error": {"message": "slow down", "type": "rate_limit_error"}}).encode()
    again = Reply(refusal, status=429, headers={"retry-after-ms": "1"})
    with Replay(again, named("chat-text").body) as replay:
        client = opened(openai.OpenAI(base_url=replay.base_url, api_key="unused", max_retries=1))
        assert list(client.chat.completions.create(model="m", messages=TALK, stream=True))
        assert len(replay.exchanges) == 2
        assert replay.exchanges[0].path == "/v1/chat/completions"
        assert json.loads(replay.exchanges[1].body)["stream"] is True
    with Replay(again) as replay, pytest.raises(openai.RateLimitError, match="slow down"):
        chat_stream(replay)


def test_paths_and_queries_are_recorded():
    with Replay(named("anthropic-text").body) as replay:
        client = opened(
            anthropic.Anthropic(base_url=replay.root_url, api_key="unused", max_retries=0)
        )
        with client.messages.stream(
            model="m", max_tokens=9, messages=TALK, extra_query={"beta": "true"}
        ) as stream:
            assert stream.get_final_text() == named("anthropic-text").expected.text
        (exchange,) = replay.exchanges
        assert (exchange.path, exchange.query) == ("/v1/messages", "beta=true")
        assert exchange.headers["anthropic-version"]


def test_nothing_to_replay():
    with pytest.raises(ValueError, match="nothing"):
        Replay()
