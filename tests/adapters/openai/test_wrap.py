"""What wrapping changes (nothing), whom it concerns, and what is published besides streams."""

import asyncio
import json
import subprocess
import sys
import threading
from typing import Any

import openai
import pytest
from openai import AsyncAzureOpenAI, AzureOpenAI, OpenAI
from pydantic import BaseModel

import tokenwire
from tests.adapters.openai.clients import aclient, client
from tests.support.recordings import OWN, Recording, load, named, parameters
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import check, ended, fresh_sink, responses
from tokenwire import Sink, opening
from tokenwire.context import Claim, claiming
from tokenwire.instrument import recorder_of
from tokenwire_adapters.openai import unwrap, wrap

TEXT = named("chat-text")
CHAT: dict[str, Any] = {"model": "m", "messages": []}


def read(on: Any) -> list[Any]:
    return list(on.chat.completions.create(**CHAT, stream=True))


def _whole(**message: Any) -> Reply:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": None, **message},
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    return _json(body)


def _json(body: Any) -> Reply:
    # The replay server takes every body of status 200 for a stream; JSON in one piece is one, too.
    return Reply(json.dumps(body).encode(), headers={"content-type": "application/json"})


# -- a wrapped object is the same object


@pytest.mark.parametrize("recording", parameters("chat") + parameters("responses"))
def test_the_same_chunks(recording: Recording, sink: Sink) -> None:
    def chunks(on: Any) -> list[str]:
        reported: list[str] = []
        try:
            if recording.api == "chat":
                stream: Any = on.chat.completions.create(**CHAT, stream=True)
            else:
                stream = on.responses.create(model="m", input="x", stream=True)
            reported.extend(repr(chunk) for chunk in stream)
        except openai.APIError as error:
            reported.append(repr(error))
        return reported

    with Replay(recording.body) as replay, client(replay) as on:
        bare = chunks(on)
        assert chunks(wrap(on, sink, channel="c")) == bare


def test_identity_type_and_attributes(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on:
        before = {name: id(value) for name, value in vars(on).items()}
        assert wrap(on, sink, channel="c") is on
        assert type(on) is OpenAI
        assert {name: id(value) for name, value in vars(on).items()} == before
        stream = on.chat.completions.create(**CHAT, stream=True)
        assert type(stream) is openai.Stream
        assert stream.response.status_code == 200
        with stream as same:
            assert same is stream
        assert stream.response.is_closed


def test_a_stream_that_is_not_heard_is_the_sdks_own(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on, client(replay) as other:
        wrap(on, sink, channel="c")
        stream: Any = other.chat.completions.create(**CHAT, stream=True)
        assert stream._iterator.gi_code.co_filename.endswith("_streaming.py")
        assert stream._iterator.gi_code.co_name == "__stream__"
        stream.close()


def test_only_the_wrapped_client_is_heard(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on, client(replay) as other:
        wrap(on, sink, channel="c")
        read(other)
        assert responses(sink, "c") == []
        read(on.with_options(timeout=60).copy())
        assert len(responses(sink, "c")) == 1
        unwrap(on)
        read(on)
        assert len(responses(sink, "c")) == 1


def test_unwrapping_the_last_puts_the_sdk_back() -> None:
    # In a process of its own: other tests' clients, and frameworks' hooks, keep it patched.
    program = """
import openai
from tokenwire_adapters.openai import unwrap, wrap
with openai.OpenAI(api_key="x") as on:
    wrap(on)
    assert hasattr(openai.Stream.__stream__, "__wrapped__")
    unwrap(on)
for place in (openai.Stream.__stream__, openai.Stream.close, openai.OpenAI.with_options):
    assert not hasattr(place, "__wrapped__"), place
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_wrapping_again_replaces_what_was_told(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on:
        wrap(on, sink, channel="a")
        wrap(on, sink, channel="b")
        read(on)
    assert responses(sink, "a") == []
    assert len(responses(sink, "b")) == 1


@pytest.mark.parametrize("thing", [object(), "x", None, 3, openai])
def test_other_things_are_refused(thing: Any, sink: Sink) -> None:
    with pytest.raises(TypeError, match="not a client or stream"):
        wrap(thing, sink)


def test_wrong_arguments_are_refused(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on:
        with pytest.raises(ValueError, match="on_cancel"):
            wrap(on, sink, on_cancel="explode")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="channel"):
            wrap(on, sink, channel=3)  # type: ignore[arg-type]


def test_azure(sink: Sink) -> None:
    options: Any = {"api_key": "x", "api_version": "1", "max_retries": 0}
    with Replay(TEXT.body) as replay:
        with AzureOpenAI(azure_endpoint=replay.root_url, **options) as on:
            wrap(on, sink, channel="c")
            read(on.with_options(timeout=60))
        assert "/deployments/m/" in replay.exchanges[0].path

        async def run() -> None:
            async with AsyncAzureOpenAI(azure_endpoint=replay.root_url, **options) as on:
                async for _ in await wrap(on, sink, channel="c").chat.completions.create(
                    **CHAT, stream=True
                ):
                    pass

        asyncio.run(run())
    for response in responses(sink, "c"):
        check(response, TEXT.expected)
    assert len(responses(sink, "c")) == 2


# -- names


def test_channel_run_and_metadata(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on:
        wrap(on, sink, channel=lambda: "called", run="run-1", metadata={"user": "u1"})
        read(on)
        wrap(on, sink)
        with tokenwire.channel("context", run="run-2"):
            read(on)
    (one,) = responses(sink, "called")
    assert one.run == "run-1"
    assert one.metadata == {
        "provider": "openai",
        "api": "chat.completions",
        "model": "m",
        "user": "u1",
    }
    (other,) = responses(sink, "context")
    assert other.run == "run-2"


def test_a_client_that_users_share_says_whose_each_response_is(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    user = ["ann"]
    with Replay(TEXT.body) as replay, client(replay) as on:
        wrap(on, sink, channel="c", metadata=lambda: {"user": user[0]})
        read(on)
        user[0] = "bob"
        read(on)
        user.clear()  # so that the function raises, which harms no call
        read(on)
        wrap(on, sink, channel="c")
        with tokenwire.channel("c", metadata={"user": "eve"}):
            stream = on.chat.completions.create(**CHAT, stream=True)
        for _ in stream:  # outside the block that began it
            pass
    users = [response.metadata.get("user") for response in responses(sink, "c")]
    assert sorted(map(str, users)) == ["None", "ann", "bob", "eve"]
    assert "metadata function failed" in caplog.text


def test_the_response_is_there_before_the_first_token(sink: Sink) -> None:
    with Replay(Reply(TEXT.body, gate=(gate := Gate()))) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        reader = threading.Thread(target=read, args=(on,))
        reader.start()
        replay.wait(lambda: bool(replay.exchanges))
        (response,) = responses(sink, "c")
        assert response.state == "streaming"
        gate.open()
        reader.join()
    check(ended(sink, "c"), TEXT.expected)


# -- replies that do not stream


def test_a_whole_reply(sink: Sink) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    cited = {"url": "https://x.test/", "title": "X", "start_index": 0, "end_index": 2}
    reply = _whole(
        content="Hi",
        reasoning_content="Hm",
        tool_calls=[call],
        annotations=[{"type": "url_citation", "url_citation": cited}],
    )
    with Replay(reply) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        result = on.chat.completions.create(**CHAT)
        assert result.choices[0].message.content == "Hi"
        raw = on.chat.completions.with_raw_response.create(**CHAT)
        assert len(responses(sink, "c")) == 1  # nobody may ever look into it
        assert raw.parse().choices[0].message.content == "Hi"
        with on.chat.completions.with_streaming_response.create(**CHAT) as streaming:
            assert streaming.parse().choices[0].message.content == "Hi"
    found = responses(sink, "c")
    assert len(found) == 3
    for response in found:
        assert (response.state, response.finish_reason) == ("complete", "stop")
        assert (response.text, response.reasoning) == ("Hi", "Hm")
        (part,) = response.tool_calls
        assert (part.name, part.call_id, part.arguments) == ("f", "call_1", '{"a":1}')
        assert [p.data["url"] for p in response.parts if p.kind == "source"] == ["https://x.test/"]
        assert response.usage == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


async def test_a_whole_reply_of_an_async_client(sink: Sink) -> None:
    with Replay(_whole(content="Hi")) as replay:
        async with aclient(replay) as on:
            wrap(on, sink, channel="c")
            assert (await on.chat.completions.create(**CHAT)).choices[0].message.content == "Hi"
            raw = await on.chat.completions.with_raw_response.create(**CHAT)
            assert raw.parse().choices[0].message.content == "Hi"
            async with on.chat.completions.with_streaming_response.create(**CHAT) as got:
                assert len(responses(sink, "c")) == 2  # nobody may ever look into it
                assert (await got.parse()).choices[0].message.content == "Hi"
    assert [(one.text, one.state) for one in responses(sink, "c")] == [("Hi", "complete")] * 3


class Answer(BaseModel):
    """What `parse` is asked for."""

    a: int


def test_parse(sink: Sink) -> None:
    with Replay(_whole(content='{"a": 1}')) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        result = on.chat.completions.parse(**CHAT, response_format=Answer)
        assert result.choices[0].message.parsed == Answer(a=1)
    assert ended(sink, "c").text == '{"a": 1}'


async def test_a_whole_reply_async(sink: Sink) -> None:
    async with Replay(_whole(content="Hi")) as replay, aclient(replay) as on:
        await wrap(on, sink, channel="c").chat.completions.create(**CHAT)
    assert responses(sink, "c")[0].text == "Hi"


@pytest.mark.parametrize("recording", load(OWN, "responses"), ids=lambda recording: recording.name)
def test_a_whole_response_object(recording: Recording, sink: Sink) -> None:
    """The object that a stream's last event carries holds the same as its deltas."""
    last = json.loads(recording.body.strip().split(b"data:")[-1])
    if "response" not in last:
        pytest.skip("this one ends without")
    with Replay(_json(last["response"])) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        on.responses.create(model="m", input="x")
    if last["response"]["output"]:
        check(ended(sink, "c"), recording.expected)
    assert ended(sink, "c").finish_reason == recording.expected.finish


def test_what_is_no_reply_is_left_alone(sink: Sink) -> None:
    body = {"object": "list", "data": [{"id": "m", "object": "model"}]}
    with Replay(_json(body)) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        assert [model.id for model in on.models.list()] == ["m"]
    assert responses(sink, "c") == []


# -- each token once


def test_a_claim_is_taken(sink: Sink) -> None:
    claim = Claim(channel="claimed", run="run-9", response_id="r9", metadata={"node": "n"})
    with Replay(TEXT.body) as replay, client(replay) as on:
        wrap(on, sink)
        with claiming(claim):
            read(on)
            assert claim.taken
            assert claim.writer.id == "r9"
            read(on)  # a retry, or a call under the same hook
        claim.close()
    first, second = responses(sink, "claimed")
    assert (first.id, first.run, first.metadata["node"]) == ("r9", "run-9", "n")
    assert second.id != "r9"
    assert second.run == "run-9"
    check(first, TEXT.expected)
    check(second, TEXT.expected)


def test_a_claim_of_somebody_else(sink: Sink) -> None:
    claim = Claim(channel="claimed", run="run-9", response_id="r9")
    claim.take(object())
    with Replay(TEXT.body) as replay, client(replay) as on:
        wrap(on, sink, channel="mine")
        with claiming(claim):
            read(on)
    (response,) = responses(sink, "mine")
    assert response.run == "run-9"
    assert response.id != "r9"


def test_which_recorder_has_read_a_chunk(sink: Sink) -> None:
    assert not recorder_of(None)
    with Replay(TEXT.body) as replay, client(replay) as on:
        for chunk in on.chat.completions.create(**CHAT, stream=True):
            assert not recorder_of(chunk)
        wrap(on, sink, channel="c")
        for chunk in on.chat.completions.create(**CHAT, stream=True):
            assert recorder_of(chunk) or chunk.usage  # the last chunk ends the response
        assert not recorder_of(chunk)


# -- nothing of ours may harm the agent


class Broken:
    """A sink that fails at everything."""

    def __init__(self, at: str) -> None:
        self._at = at
        self._sink = fresh_sink(strict=False)

    def __getattr__(self, name: str) -> Any:
        if name == self._at:
            raise RuntimeError("broken")
        return getattr(self._sink, name)


class BrokenLater(Broken):
    """A sink whose writers fail."""

    def respond(self, *args: Any, **kwargs: Any) -> Any:
        writer = self._sink.respond(*args, **kwargs)

        def fail(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("broken")

        setattr(writer, self._at, fail)
        return writer


def _broken() -> list[Any]:
    created: list[Any] = [Broken("respond"), Broken("_runtime"), Broken("strict")]
    created += [
        BrokenLater(at)
        for at in ("write", "part", "finish", "add_cancel_callback", "fail", "cancel")
    ]
    closed = fresh_sink(strict=False)
    closed.close()
    return [*created, closed]


@pytest.mark.parametrize("name", ["chat-text", "chat-error", "chat-tool-calls", "responses-text"])
@pytest.mark.parametrize("broken", range(len(_broken())))
@pytest.mark.filterwarnings("ignore")
def test_a_broken_sink_changes_nothing(name: str, broken: int) -> None:
    recording = named(name)
    sink = _broken()[broken]

    def chunks(on: Any) -> list[str]:
        reported: list[str] = []
        try:
            if recording.api == "chat":
                stream: Any = on.chat.completions.create(**CHAT, stream=True)
            else:
                stream = on.responses.create(model="m", input="x", stream=True)
            reported.extend(repr(chunk) for chunk in stream)
            stream.close()
        except openai.APIError as error:
            reported.append(repr(error))
        return reported

    with Replay(recording.body) as replay, client(replay) as on:
        bare = chunks(on)
        assert chunks(wrap(on, sink, channel="c")) == bare
    sink.close()


def test_a_broken_sink_is_told_of_once_a_call(caplog: pytest.LogCaptureFixture) -> None:
    sink: Any = Broken("respond")
    with Replay(TEXT.body) as replay, client(replay) as on:
        assert read(wrap(on, sink, channel="c"))
    sink.close()
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "tokenwire: cannot record a stream of openai"
    ]


@pytest.mark.parametrize("url", ["nonsense://x", "redis://127.0.0.1:1/0", "memory://a b\n"])
def test_a_misconfigured_default_sink_changes_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENWIRE_URL", url)
    monkeypatch.setattr(opening, "_default", None)
    with Replay(TEXT.body) as replay, client(replay) as on:
        bare = [repr(chunk) for chunk in read(on)]
        assert [repr(chunk) for chunk in read(wrap(on, channel="c"))] == bare
    if opening._default is not None:
        opening._default.close(0.1)


def test_a_strict_sink_tells(sink: Sink) -> None:
    sink.close()
    with Replay(TEXT.body) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        with pytest.raises(tokenwire.SinkClosed):
            read(on)
