"""What wrapping changes (nothing), and what is published besides streams."""

import json
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.adapters.anthropic.clients import aclient, client
from tests.support.recordings import Recording, named, parameters
from tests.support.replay import Replay, Reply
from tests.support.sdk import check, ended, responses
from tokenwire import Sink
from tokenwire.context import Claim, claiming
from tokenwire_adapters.anthropic import unwrap, wrap

TEXT = named("anthropic-text")
ARGUMENTS: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": []}


def read(on: Any) -> list[Any]:
    return list(on.messages.create(**ARGUMENTS, stream=True))


def _json(body: Any) -> Reply:
    return Reply(json.dumps(body).encode(), headers={"content-type": "application/json"})


WHOLE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m-1",
    "content": [
        {"type": "thinking", "thinking": "Hm", "signature": "secret"},
        {
            "type": "text",
            "text": "Hi",
            "citations": [
                {
                    "type": "char_location",
                    "cited_text": "x",
                    "document_index": 0,
                    "document_title": "T",
                    "start_char_index": 0,
                    "end_char_index": 1,
                }
            ],
        },
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "é"}},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srv_1",
            "content": [
                {
                    "type": "web_search_result",
                    "url": "https://x.test/",
                    "title": "X",
                    "encrypted_content": "secret",
                }
            ],
        },
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


@pytest.mark.parametrize("recording", parameters("anthropic"))
def test_the_same_chunks(recording: Recording, sink: Sink) -> None:
    def chunks(on: Any) -> list[str]:
        reported: list[str] = []
        try:
            with on.messages.stream(**ARGUMENTS) as stream:
                reported.extend(repr(event) for event in stream)
        except anthropic.APIError as error:
            reported.append(repr(error))
        return reported

    with Replay(recording.body) as replay, client(replay) as on:
        bare = chunks(on)
        assert chunks(wrap(on, sink, channel="c")) == bare


def test_identity_type_and_attributes(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on:
        before = {name: id(value) for name, value in vars(on).items()}
        assert wrap(on, sink, channel="c") is on
        assert type(on) is Anthropic
        assert {name: id(value) for name, value in vars(on).items()} == before
        with on.messages.create(**ARGUMENTS, stream=True) as stream:
            assert type(stream) is anthropic.Stream
        assert stream.response.is_closed


def test_only_the_wrapped_client_and_its_copies(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, client(replay) as on, client(replay) as other:
        wrap(on, sink, channel="c")
        read(other)
        assert responses(sink, "c") == []
        read(on.with_options(timeout=60))
        assert len(responses(sink, "c")) == 1
        unwrap(on)
        read(on)
        assert len(responses(sink, "c")) == 1


def test_a_whole_message(sink: Sink) -> None:
    with Replay(_json(WHOLE)) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        assert on.messages.create(**ARGUMENTS).content[1].text == "Hi"  # type: ignore[union-attr]
    response = ended(sink, "c")
    assert (response.text, response.reasoning) == ("Hi", "Hm")
    assert [(call.name, call.call_id, call.arguments) for call in response.tool_calls] == [
        ("f", "toolu_1", '{"a": "é"}'),
        ("web_search", "srv_1", '{"query": "q"}'),
    ]
    (result,) = response.tool_results
    assert result.call_id == "srv_1"
    assert result.output[0]["url"] == "https://x.test/"
    assert [part.data["cited_text"] for part in response.parts if part.kind == "source"] == ["x"]
    assert (response.finish_reason, response.usage) == ("tool_use", WHOLE["usage"])
    assert "secret" not in repr(response)


async def test_a_whole_beta_message_async(sink: Sink) -> None:
    async with Replay(_json(WHOLE)) as replay, aclient(replay) as on:
        await wrap(on, sink, channel="c").beta.messages.create(**ARGUMENTS)
    assert responses(sink, "c")[0].text == "Hi"


def test_counting_tokens_is_no_reply(sink: Sink) -> None:
    with Replay(_json({"input_tokens": 3})) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        assert on.messages.count_tokens(model="m", messages=[]).input_tokens == 3
    assert responses(sink, "c") == []


def test_a_claim_is_taken(sink: Sink) -> None:
    claim = Claim(channel="claimed", run="run-9", response_id="r9", metadata={"node": "n"})
    with Replay(TEXT.body) as replay, client(replay) as on:
        wrap(on, sink)
        with claiming(claim):
            read(on)
    (response,) = responses(sink, "claimed")
    assert (response.id, response.run, response.metadata["node"]) == ("r9", "run-9", "n")
    check(response, TEXT.expected)


@pytest.mark.parametrize("thing", [object(), "x", None])
def test_other_things_are_refused(thing: Any, sink: Sink) -> None:
    with pytest.raises(TypeError, match="not a client or stream"):
        wrap(thing, sink)


def test_input_tokens_of_older_servers(sink: Sink) -> None:
    """They tell the input side when the message begins, and only the output side at its end."""
    body = TEXT.body.decode()
    events = []
    for event in body.split("\n\n"):
        if '"message_delta"' in event:
            event = (
                "event: message_delta\ndata: "
                '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
                '"usage":{"output_tokens":10}}'
            )
        events.append(event)
    with Replay("\n\n".join(events).encode()) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        read(on)
    assert ended(sink, "c").usage == TEXT.expected.usage
