"""The provider's message, wherever a server puts it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import openai
import pytest

from tests.adapters.openai.clients import client
from tests.support.offline import openai_client
from tests.support.replay import Replay, Reply
from tests.support.sdk import ended
from tests.support.sse import body
from tokenwire import Sink
from tokenwire_adapters.openai import wrap

Json = Any

BOOM = "CUDA out of memory"

ERRORS: list[Json] = [
    BOOM,
    {"message": BOOM},
    {"message": BOOM, "type": "server_error", "code": 500},
    {"message": {"message": BOOM}},
    {"error": {"message": BOOM}},
    {"error": {"error": BOOM}},
    {"detail": BOOM},
    {"detail": [{"loc": ["body"], "msg": BOOM, "type": "value_error"}]},
    {"error": "Internal Server Error", "message": BOOM, "statusCode": 500},
    [{"message": BOOM}],
    [BOOM],
]

with_errors = pytest.mark.parametrize("error", ERRORS, ids=json.dumps)


def _chat(on: Any) -> Any:
    return on.chat.completions.create(model="m", messages=[], stream=True)


@with_errors
def test_in_a_stream_of_chunks(error: Json, sink: Sink) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
    with openai_client(body(chunk, {"error": error})) as on, pytest.raises(openai.APIError):
        list(_chat(wrap(on, sink, channel="c")))
    got = sink.history("c").items[0]
    assert (got.text, got.state, got.error) == ("Hi", "failed", BOOM)


@with_errors
def test_in_a_stream_of_responses(error: Json, sink: Sink) -> None:
    events = [{"type": "error", "error": error}]
    with openai_client(body(*events, named=True)) as on, pytest.raises(openai.APIError):
        wrap(on, sink, channel="c")
        list(on.responses.create(model="m", input="x", stream=True))
    assert sink.history("c").items[0].error == BOOM


@with_errors
def test_in_a_response_that_failed(error: Json, sink: Sink) -> None:
    event = {"type": "response.failed", "response": {"status": "failed", "error": error}}
    with openai_client(body(event, named=True)) as on:
        wrap(on, sink, channel="c")
        list(on.responses.create(model="m", input="x", stream=True))
    got = sink.history("c").items[0]
    assert (got.state, got.error) == ("failed", BOOM)


@pytest.mark.parametrize("around", [lambda error: {"error": error}, lambda error: error])
@with_errors
def test_with_an_error_status(error: Json, around: Any, sink: Sink) -> None:
    served = Reply(json.dumps(around(error)).encode(), status=500)
    with Replay(served) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        with pytest.raises(openai.InternalServerError):
            list(_chat(on))
    got = ended(sink, "c")
    assert got.state == "failed"
    assert BOOM in (got.error or "")


@pytest.mark.parametrize(
    "error",
    [
        {"object": "error", "message": BOOM, "code": 500},  # vLLM
        {"type": "error", "message": BOOM},
        {"detail": BOOM},  # FastAPI
    ],
    ids=json.dumps,
)
def test_in_the_place_of_a_chunk(error: Json, sink: Sink) -> None:
    """The SDK raises nothing, and the stream ends as usual."""
    with openai_client(body(error, done=True)) as on:
        list(_chat(wrap(on, sink, channel="c")))
    got = sink.history("c").items[0]
    assert (got.state, got.error) == ("failed", BOOM)


@with_errors
def test_in_the_place_of_a_whole_reply(error: Json, sink: Sink) -> None:
    served = json.dumps({"error": error}).encode()
    with openai_client(served, "application/json") as on, contextlib.suppress(TypeError):
        wrap(on, sink, channel="c").chat.completions.create(model="m", messages=[])
    got = sink.history("c").items[0]
    assert (got.state, got.error) == ("failed", BOOM)


def test_of_one_choice(sink: Sink) -> None:
    """OpenRouter's way: the stream goes on, and ends as usual."""
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": ERRORS[2]}
    with openai_client(body({"choices": [choice]}, done=True)) as on:
        list(_chat(wrap(on, sink, channel="c")))
    got = sink.history("c").items[0]
    assert (got.state, got.finish_reason, got.error) == ("failed", "error", BOOM)


@pytest.mark.parametrize("error", [{"code": 7}, [7]], ids=str)
def test_an_error_without_a_message_is_shown_as_it_is(error: Json, sink: Sink) -> None:
    with openai_client(body({"error": error})) as on, pytest.raises(openai.APIError):
        list(_chat(wrap(on, sink, channel="c")))
    assert sink.history("c").items[0].error == json.dumps(error)
