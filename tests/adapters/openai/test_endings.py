"""How a stream ends, and what becomes of its response; Chat Completions and Responses."""

import asyncio
from typing import Any

import openai
import pytest

import tokenwire
from tests.adapters.openai.clients import aclient, client
from tests.support import endings
from tests.support.endings import ASYNC, SYNC, Talk
from tests.support.recordings import named
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import ended, responses
from tokenwire import Sink, background
from tokenwire._instrument import recorder as _recorder
from tokenwire_adapters.openai import wrap


def _chat(on: Any) -> Any:
    return on.chat.completions.create(model="m", messages=[], stream=True)


def _responses(on: Any) -> Any:
    return on.responses.create(model="m", input="x", stream=True)


def _talk(name: str, bad: str, first: int, create: Any) -> Talk:
    recording = named(name)
    return Talk(
        good=recording.body,
        text=recording.expected.text,
        bad=named(bad).body,
        first=first,
        client=client,
        aclient=aclient,
        create=create,
        wrap=wrap,
    )


CHAT = _talk("chat-text", "chat-error", 4, _chat)
RESPONSES = _talk("responses-text", "responses-error", 6, _responses)
talks = pytest.mark.parametrize("talk", [CHAT, RESPONSES], ids=["chat", "responses"])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    endings.quick_settling(monkeypatch)


@talks
@pytest.mark.parametrize(("way", "state"), SYNC, ids=lambda value: getattr(value, "__name__", ""))
def test_sync(talk: Talk, way: Any, state: Any, sink: Sink) -> None:
    endings.check_sync(talk, way, state, sink)


@talks
@pytest.mark.parametrize(("way", "state"), ASYNC, ids=lambda value: getattr(value, "__name__", ""))
async def test_async(talk: Talk, way: Any, state: Any, sink: Sink) -> None:
    await endings.check_async(talk, way, state, sink)


def test_an_error_in_the_stream(sink: Sink) -> None:
    reported = named("chat-error").expected.error
    endings.check_failures(CHAT, Reply(CHAT.bad), reported, sink)


@talks
def test_an_error_status(talk: Talk, sink: Sink) -> None:
    body = b'{"error": {"message": "No such model.", "type": "x", "code": "y", "param": null}}'
    endings.check_failures(talk, Reply(body, status=404), "No such model.", sink)


@talks
def test_a_dropped_connection(talk: Talk, sink: Sink) -> None:
    reply = Reply(talk.good, drop_after=talk.first, drop_bytes=9)
    endings.check_failures(talk, reply, None, sink)


def test_no_server(sink: Sink) -> None:
    with Replay(b"x") as replay:
        on = client(replay)
    wrap(on, sink, channel="c")
    with pytest.raises(openai.APIConnectionError):
        list(_chat(on))
    assert ended(sink, "c").state == "failed"
    on.close()


def test_a_finished_reply_that_is_not_read_on(sink: Sink) -> None:
    """Nobody reads the usage chunk, and the stream stays open: the reply is complete."""
    with Replay(CHAT.good) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        stream = _chat(on)
        for chunk in stream:
            if chunk.choices and chunk.choices[0].finish_reason:
                break
        response = ended(sink, "c")
        assert (response.state, response.finish_reason) == ("complete", "stop")
        assert response.text == CHAT.text
        stream.close()


@pytest.mark.slow
def test_a_finished_reply_of_which_nothing_more_is_asked(sink: Sink) -> None:
    """No loop was left: the consumer asks for chunks itself, and for no more."""
    with Replay(CHAT.good) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        stream = _chat(on)
        while not ((chunk := next(stream)).choices and chunk.choices[0].finish_reason):
            pass
        response = ended(sink, "c")
        assert (response.state, response.finish_reason) == ("complete", "stop")
        assert response.text == CHAT.text
        stream.close()


def test_a_loop_that_is_left_and_taken_up_again(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_recorder, "_SETTLE", 30)
    with Replay(CHAT.good) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        stream = _chat(on)
        next(iter(stream))
        assert list(stream)
    assert ended(sink, "c").text == CHAT.text


@pytest.mark.slow
@talks
def test_process_exit(talk: Talk) -> None:
    call = "chat.completions.create(model='m', messages=[], stream=True)"
    if talk is RESPONSES:
        call = "responses.create(model='m', input='x', stream=True)"
    program = f"""
        from openai import OpenAI
        from tokenwire_adapters.openai import wrap
        client = wrap(OpenAI(base_url=sys.argv[1], api_key="x"), sink, channel="c")
        stream = client.{call}
        for _ in range({talk.first}):
            next(stream)
        """
    with Replay(Reply(talk.good, gate=Gate(talk.first))) as replay:
        response = endings.check_exit(program, replay)
    assert response.state in ("abandoned", "cancelled")
    assert response.text
    assert talk.text.startswith(response.text)


@talks
def test_cancel_while_waiting(talk: Talk, sink: Sink) -> None:
    assert endings.check_cancel_blocked(talk, sink)


@talks
def test_cancel_raises_where_asked(talk: Talk, sink: Sink) -> None:
    with pytest.raises(tokenwire.ResponseCancelled) as raised:
        endings.check_cancel_blocked(talk, sink, on_cancel="raise")
    assert raised.value.reason == "enough"


@talks
async def test_cancel_while_waiting_async(talk: Talk, sink: Sink) -> None:
    await endings.acheck_cancel_blocked(talk, sink)


@talks
async def test_cancel_raises_where_asked_async(talk: Talk, sink: Sink) -> None:
    with pytest.raises(tokenwire.ResponseCancelled):
        await endings.acheck_cancel_blocked(talk, sink, on_cancel="raise")


@talks
def test_cancel_between_chunks(talk: Talk, sink: Sink) -> None:
    endings.check_cancel_between(talk, sink)


@talks
def test_cancel_before_the_first_chunk(talk: Talk, sink: Sink) -> None:
    endings.check_cancel_before_first(talk, sink)


def test_cancel_one_choice_of_two(sink: Sink) -> None:
    """The other goes on; so does the stream, which brings both."""
    recording = named("chat-two-choices")
    with Replay(recording.body) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        stream = on.chat.completions.create(model="m", messages=[], stream=True, n=2)
        for read, _ in enumerate(stream, start=1):
            if read == 6:
                first, _second = responses(sink, "c")
                assert sink.cancel("c", first.id).state == "cancelled"
    one, other = responses(sink, "c")
    assert one.state == "cancelled"
    assert recording.expected.texts[0].startswith(one.text)
    assert (other.state, other.text) == ("complete", recording.expected.texts[1])


def test_cancel_both_choices(sink: Sink) -> None:
    recording = named("chat-two-choices")
    with Replay(recording.body) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        read = 0
        for _ in on.chat.completions.create(model="m", messages=[], stream=True, n=2):
            read += 1
            if read == 6:
                for response in responses(sink, "c"):
                    assert sink.cancel("c", response.id).state == "cancelled"
                background.run(sink, asyncio.sleep(0))
        assert read == 6
