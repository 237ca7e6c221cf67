"""A reply that was cut off in good order: the body ends, and nothing says that the reply does."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.adapters.openai.clients import aclient, client
from tests.support.offline import openai_client
from tests.support.replay import Replay, Reply
from tests.support.sdk import ended
from tests.support.sse import body
from tokenwire import Response, Sink
from tokenwire_adapters._agents.stainless.stream_end import watch_end
from tokenwire_adapters.openai import wrap

Json = Any

CUT_OFF = "the stream ended before the reply was complete"


def _chunk(text: str, finish: str | None = None, index: int = 0, **more: Json) -> Json:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": finish, "text": text}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
COUNTED = {**_chunk(""), "choices": [], "usage": USAGE}
HALF = [_chunk("The dose "), _chunk("is 10")]

ENDS: list[tuple[list[Json], bool, str, str | None]] = [
    (HALF, False, "failed", None),
    ([], False, "failed", None),
    (HALF, True, "complete", None),  # some servers send no finish reason
    ([], True, "complete", None),
    ([*HALF, _chunk("", "stop")], False, "complete", "stop"),  # and some no [DONE]
    ([*HALF, _chunk("", "length")], True, "complete", "length"),
    ([*HALF, _chunk("", "")], False, "failed", None),
    ([*HALF, COUNTED], False, "complete", None),  # it comes last
    ([_chunk("The dose ", usage=USAGE), _chunk("is 10", usage=USAGE)], False, "failed", None),
]


def _create(on: Any, api: str) -> Any:
    if api == "chat":
        return on.chat.completions.create(model="m", messages=[], stream=True)
    return on.completions.create(model="m", prompt="x", stream=True)


def _check(got: Response, events: list[Json], state: str, finish: str | None) -> None:
    assert got.text == ("The dose is 10" if events else "")
    assert (got.state, got.finish_reason) == (state, finish)
    assert got.error == (CUT_OFF if state == "failed" else None)


@pytest.mark.parametrize("api", ["chat", "text"])
@pytest.mark.parametrize("whose", ["client", "stream"])
@pytest.mark.parametrize(("events", "done", "state", "finish"), ENDS)
def test_the_end_of_a_stream(
    events: list[Json], done: bool, state: str, finish: str | None, api: str, whose: str, sink: Sink
) -> None:
    with openai_client(body(*events, done=done)) as on:
        if whose == "client":
            list(_create(wrap(on, sink, channel="c"), api))
        else:
            list(wrap(_create(on, api), sink, channel="c"))
    _check(sink.history("c").items[0], events, state, finish)


@pytest.mark.parametrize(("events", "done", "state", "finish"), ENDS)
async def test_the_end_of_a_stream_async(
    events: list[Json], done: bool, state: str, finish: str | None, sink: Sink
) -> None:
    served = body(*events, done=done)
    async with Replay(Reply(served)) as replay, aclient(replay) as on:
        stream = await _create(wrap(on, sink, channel="c"), "chat")
        assert [chunk async for chunk in stream] or not events
    _check(sink.history("c").items[0], events, state, finish)


def test_one_choice_of_two_is_cut_off(sink: Sink) -> None:
    events = [_chunk("One"), _chunk("Two", index=1), _chunk("", "stop", index=1)]
    with openai_client(body(*events)) as on:
        wrap(on, sink, channel="c")
        list(on.chat.completions.create(model="m", messages=[], stream=True, n=2))
    other, one = sink.history("c").items
    assert (one.text, one.state, one.error) == ("One", "failed", CUT_OFF)
    assert (other.text, other.state, other.error) == ("Two", "complete", None)


def test_a_stream_that_is_wrapped_midway(sink: Sink) -> None:
    """Nobody looked for its end from the beginning: what it may not have said is not held to it."""
    with Replay(Reply(body(*HALF))) as replay, client(replay) as on:
        stream = _create(on, "chat")
        next(stream)
        list(wrap(stream, sink, channel="c"))
    assert sink.history("c").items[0].state == "complete"


def test_a_whole_reply_needs_no_finish_reason(sink: Sink) -> None:
    message = {"role": "assistant", "content": "Hi"}
    reply = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    with openai_client(json.dumps(reply).encode(), "application/json") as on:
        wrap(on, sink, channel="c").chat.completions.create(model="m", messages=[])
    assert sink.history("c").items[0].state == "complete"


DELTA = {
    "type": "response.output_text.delta",
    "item_id": "m",
    "output_index": 0,
    "content_index": 0,
    "delta": "The dose is 10",
    "logprobs": [],
    "sequence_number": 1,
}
TEXT = {"type": "output_text", "text": "The dose is 10", "annotations": []}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [TEXT]}
DONE_ITEM = {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}
COMPLETED = {"type": "response.completed", "response": {"status": "completed", "output": [MESSAGE]}}


@pytest.mark.parametrize(
    ("events", "done", "state", "finish"),
    [
        ([DELTA], False, "failed", None),
        ([DELTA, DONE_ITEM], False, "failed", None),
        ([DELTA], True, "complete", None),
        ([DELTA, COMPLETED], False, "complete", "completed"),
    ],
)
def test_the_end_of_a_response(
    events: list[Json], done: bool, state: str, finish: str | None, sink: Sink
) -> None:
    with openai_client(body(*events, named=True, done=done)) as on:
        wrap(on, sink, channel="c")
        list(on.responses.create(model="m", input="x", stream=True))
    _check(ended(sink, "c"), events, state, finish)


def test_an_sdk_that_reads_on_after_the_mark() -> None:
    """As openai 2.0 does, to leave the connection in order: that is no second end."""
    ends: list[bool] = []
    events = [SimpleNamespace(data="{}"), SimpleNamespace(data="[DONE]")]
    assert list(watch_end(iter(events), "[DONE]", ends.append)) == events
    assert list(watch_end(iter(events[:1]), "[DONE]", ends.append)) == events[:1]
    assert ends == [True, False]
