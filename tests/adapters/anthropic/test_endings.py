"""How a stream ends, and what becomes of its response."""

from typing import Any

import pytest

import tokenwire
from tests.adapters.anthropic.clients import aclient, client
from tests.support import endings
from tests.support.endings import ASYNC, SYNC, Talk
from tests.support.recordings import named
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import ended
from tokenwire import Sink
from tokenwire_adapters.anthropic import wrap


def _create(on: Any) -> Any:
    return on.messages.create(model="m", max_tokens=9, messages=[], stream=True)


TALK = Talk(
    good=named("anthropic-text").body,
    text=named("anthropic-text").expected.text,
    bad=named("anthropic-error").body,
    first=4,
    client=client,
    aclient=aclient,
    create=_create,
    wrap=wrap,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    endings.quick_settling(monkeypatch)


@pytest.mark.parametrize(("way", "state"), SYNC, ids=lambda value: getattr(value, "__name__", ""))
def test_sync(way: Any, state: Any, sink: Sink) -> None:
    endings.check_sync(TALK, way, state, sink)


@pytest.mark.parametrize(("way", "state"), ASYNC, ids=lambda value: getattr(value, "__name__", ""))
async def test_async(way: Any, state: Any, sink: Sink) -> None:
    await endings.check_async(TALK, way, state, sink)


def test_an_error_in_the_stream(sink: Sink) -> None:
    endings.check_failures(TALK, Reply(TALK.bad), "Overloaded", sink)


def test_an_error_status(sink: Sink) -> None:
    body = b'{"type": "error", "error": {"type": "not_found_error", "message": "No such model."}}'
    endings.check_failures(TALK, Reply(body, status=404), "No such model.", sink)


def test_a_dropped_connection(sink: Sink) -> None:
    reply = Reply(TALK.good, drop_after=TALK.first, drop_bytes=9)
    endings.check_failures(TALK, reply, None, sink)


def test_a_stream_that_stops_short(sink: Sink) -> None:
    """The body ends, in good order, before the message does: the SDK does not notice."""
    short = TALK.good[: TALK.good.index(b"event: content_block_stop")]
    with Replay(short) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        list(_create(on))
    assert ended(sink, "c").state == "failed"


@pytest.mark.slow
def test_process_exit() -> None:
    program = """
        from anthropic import Anthropic
        from tokenwire_adapters.anthropic import wrap
        client = wrap(Anthropic(base_url=sys.argv[2], api_key="x"), sink, channel="c")
        stream = client.messages.create(model="m", max_tokens=9, messages=[], stream=True)
        for _ in range(3):  # a ping is one of the four events sent
            next(stream)
        """
    with Replay(Reply(TALK.good, gate=Gate(TALK.first))) as replay:
        response = endings.check_exit(program, replay)
    assert response.state in ("abandoned", "cancelled")
    assert response.text
    assert TALK.text.startswith(response.text)


def test_cancel_while_waiting(sink: Sink) -> None:
    assert endings.check_cancel_blocked(TALK, sink)


def test_cancel_raises_where_asked(sink: Sink) -> None:
    with pytest.raises(tokenwire.ResponseCancelled) as raised:
        endings.check_cancel_blocked(TALK, sink, on_cancel="raise")
    assert raised.value.reason == "enough"


async def test_cancel_while_waiting_async(sink: Sink) -> None:
    await endings.acheck_cancel_blocked(TALK, sink)


async def test_cancel_raises_where_asked_async(sink: Sink) -> None:
    with pytest.raises(tokenwire.ResponseCancelled):
        await endings.acheck_cancel_blocked(TALK, sink, on_cancel="raise")


def test_cancel_between_chunks(sink: Sink) -> None:
    endings.check_cancel_between(TALK, sink)


def test_cancel_before_the_first_chunk(sink: Sink) -> None:
    endings.check_cancel_before_first(TALK, sink)
