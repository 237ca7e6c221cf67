"""Each event of OpenAI's APIs that no recording has, made from their reference, through the SDK."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.adapters.openai.clients import aclient, client
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import ended, fresh_sink, responses
from tests.support.sse import body, parts
from tokenwire import Response, Sink
from tokenwire._instrument import recorder as _recorder
from tokenwire.backend import Granularity
from tokenwire_adapters.openai import wrap

CHAT: dict[str, Any] = {"model": "m", "messages": []}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    reported = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**reported, "choices": [] if delta is None else [choice]}


def chat(sink: Sink, *chunks: dict[str, Any]) -> Response:
    with Replay(Reply(body(*chunks, done=True))) as replay, client(replay) as on:
        for _ in wrap(on, sink, channel="c").chat.completions.create(**CHAT, stream=True):
            pass
    return responses(sink, "c")[-1]


def test_speech_is_published_as_its_transcript(sink: Sink) -> None:
    got = chat(
        sink,
        chunk({"role": "assistant", "content": None, "audio": {"id": "a", "transcript": "Hel"}}),
        chunk({"audio": {"data": "UklGRg=="}}),
        chunk({"audio": {"transcript": "lo"}}),
        chunk({"audio": {"expires_at": 1}}),
        chunk({}, "stop"),
        chunk(None, usage=USAGE),
    )
    assert parts(got) == [("text", "Hello")]
    assert (got.state, got.finish_reason, got.usage) == ("complete", "stop", USAGE)


def test_speech_in_a_whole_reply(sink: Sink) -> None:
    audio = {"id": "a", "data": "UklGRg==", "expires_at": 1, "transcript": "Hello"}
    message = {"role": "assistant", "content": None, "refusal": None, "audio": audio}
    reply = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
    reply["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    served = Reply(json.dumps(reply).encode(), headers={"content-type": "application/json"})
    with Replay(served) as replay, client(replay) as on:
        wrap(on, sink, channel="c").chat.completions.create(**CHAT)
    assert parts(responses(sink, "c")[0]) == [("text", "Hello")]


def test_calls_of_every_kind(sink: Sink) -> None:
    got = chat(
        sink,
        chunk({"role": "assistant", "content": None, "function_call": {"name": "old"}}),
        chunk({"function_call": {"arguments": '{"a"'}}),
        chunk({"function_call": {"arguments": ": 1}"}}),
        chunk(
            {"tool_calls": [{"index": 0, "id": "t0", "type": "custom", "custom": {"name": "sh"}}]}
        ),
        chunk({"tool_calls": [{"index": 0, "custom": {"input": "ls"}}]}),
        chunk({"tool_calls": [{"index": 1, "id": "t1", "function": {"name": "f"}}]}),
        chunk({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
        chunk({}, "tool_calls", service_tier="default", obfuscation="abc"),
    )
    assert parts(got) == [
        ("tool_call", '{"a": 1}', "old"),
        ("tool_call", "ls", "sh", "t0"),
        ("tool_call", "{}", "f", "t1"),
    ]


@pytest.mark.parametrize("finish", ["stop", "length", "content_filter", "tool_calls"])
def test_finish_reasons_and_chunks_without_choices(finish: str, sink: Sink) -> None:
    filtered = chunk(None, prompt_filter_results=[{"prompt_index": 0}])  # Azure's first
    got = chat(
        sink, filtered, chunk({"content": "Hi"}), chunk({}, finish), chunk(None, usage=USAGE)
    )
    assert (got.text, got.finish_reason, got.usage) == ("Hi", finish, USAGE)


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_characters_that_a_server_cuts_in_half(granularity: Granularity) -> None:
    """Servers that count text in UTF-16 units send half an emoji with each of two chunks."""
    high, low = "\ud83d", "\ude00"
    deltas = [f"a{high}", f"{low}b", high, low, f"{low}{high}", "c", high]
    chunks = [*(chunk({"content": text}) for text in deltas), chunk({}, "stop")]
    served = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks)
    with (
        fresh_sink(granularity=granularity) as sink,
        Replay(Reply(served)) as replay,
        client(replay) as on,
    ):
        wrap(on, sink, channel="c")
        assert list(on.chat.completions.create(**CHAT, stream=True))
        assert ended(sink, "c").text == "a\U0001f600b\U0001f600\ufffd\ufffdc\ufffd"


def function(index: int | None, name: str | None, arguments: str, call_id: str | None) -> Any:
    return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}


def test_text_reasoning_and_calls_in_one_chunk(sink: Sink) -> None:
    """As Gemini's server and vLLM's send them."""
    calls = [function(0, "f", "{}", "t0"), function(1, "g", '{"a"', "t1")]
    got = chat(
        sink,
        chunk({"content": "Hi", "reasoning_content": "Hm", "tool_calls": calls}),
        chunk({"content": "!", "tool_calls": [function(1, None, ": 1}", None)]}, "tool_calls"),
    )
    assert parts(got) == [
        ("reasoning", "Hm"),
        ("text", "Hi"),
        ("tool_call", "{}", "f", "t0"),
        ("tool_call", '{"a": 1}', "g", "t1"),
        ("text", "!"),
    ]


@pytest.mark.parametrize("call_id", [None, ""])
@pytest.mark.parametrize("index", [None, 0])
def test_whole_calls_that_are_not_told_apart(
    call_id: str | None, index: int | None, sink: Sink
) -> None:
    got = chat(
        sink,
        chunk({"tool_calls": [function(index, "f", '{"a": 1}', call_id)]}),
        chunk({"tool_calls": [function(index, "f", '{"a": 2}', call_id)]}),
        chunk({}, "tool_calls"),
    )
    assert [(call.name, call.arguments) for call in got.tool_calls] == [
        ("f", '{"a": 1}'),
        ("f", '{"a": 2}'),
    ]


def test_choices_without_an_index(sink: Sink) -> None:
    bare = [chunk({"content": "Hi"}), chunk({"content": "!"}), chunk({}, "stop")]
    for each in bare:
        del each["choices"][0]["index"]
    got = chat(sink, *bare, chunk(None, usage=USAGE))
    assert (got.text, got.finish_reason, got.usage) == ("Hi!", "stop", USAGE)
    assert len(responses(sink, "c")) == 1


def test_sources_in_the_last_chunk_of_all(sink: Sink) -> None:
    last = chunk(None, usage=USAGE, citations=["https://x.test/"])  # xAI's way
    got = chat(sink, chunk({"content": "Hi"}), chunk({}, "stop"), last)
    assert [part.data["url"] for part in got.parts if part.kind == "source"] == ["https://x.test/"]


@pytest.mark.parametrize("finish", ["", "stop"])
async def test_a_reply_that_goes_on_long_after_a_finish_reason(
    finish: str, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers send an empty one, or the same one, with each chunk, or wait before usage."""
    due: list[Callable[[], object]] = []
    monkeypatch.setattr(_recorder, "call_later", lambda sink, seconds, step: due.append(step))
    first, second = (chunk({"content": text}, finish) for text in ("Hi", ","))
    last = chunk(None, usage=USAGE)
    gate = Gate()
    served = body(first, second, chunk({"content": " you"}, "stop"), last, done=True)
    async with Replay(Reply(served, gate=gate)) as replay, aclient(replay) as on:
        wrap(on, sink, channel="c")
        gate.release(1)
        stream = await on.chat.completions.create(**CHAT, stream=True)
        await anext(stream)
        for _ in range(3):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            for _ in range(len(due)):  # by now the seconds are over
                due.pop(0)()
            gate.release(1)
            await waiting
    (got,) = responses(sink, "c")
    assert (got.text, got.state, got.finish_reason) == ("Hi, you", "complete", "stop")
    assert got.usage == USAGE


# -- text completions


def piece(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    reported = {"id": "c1", "object": "text_completion", "created": 1, "model": "m"}
    return {**reported, "choices": [choice]}


COMPLETION = body(
    piece("Hel"),
    piece("One", index=1),
    piece("lo", "stop"),
    piece("", "length", index=1),
    {**piece(""), "choices": [], "usage": USAGE},
    done=True,
)


@pytest.mark.parametrize("whose", ["client", "stream"])
def test_text_completions(whose: str, sink: Sink) -> None:
    with Replay(Reply(COMPLETION)) as replay, client(replay) as on:
        if whose == "client":
            wrap(on, sink, channel="c")
        stream = on.completions.create(model="m", prompt=["a", "b"], stream=True)
        if whose == "stream":
            wrap(stream, sink, channel="c")
        for _ in stream:
            pass
    found = responses(sink, "c")
    assert [(one.text, one.finish_reason) for one in found] == [
        ("Hello", "stop"),
        ("One", "length"),
    ]
    assert all((one.state, one.usage) == ("complete", USAGE) for one in found)
    assert found[0].run == found[1].run
    assert found[0].metadata == {"provider": "openai", "api": "completions", "model": "m"}


async def test_text_completions_async(sink: Sink) -> None:
    async with Replay(Reply(COMPLETION)) as replay, aclient(replay) as on:
        wrap(on, sink, channel="c")
        async for _ in await on.completions.create(model="m", prompt="a", n=2, stream=True):
            pass
    assert [one.text for one in responses(sink, "c")] == ["Hello", "One"]


def test_a_whole_text_completion(sink: Sink) -> None:
    reply = json.dumps({**piece("Hello", "stop"), "usage": USAGE}).encode()
    served = Reply(reply, headers={"content-type": "application/json"})
    with Replay(served) as replay, client(replay) as on:
        wrap(on, sink, channel="c").completions.create(model="m", prompt=[1, 2, 3])
    (got,) = responses(sink, "c")
    assert (got.text, got.finish_reason, got.usage) == ("Hello", "stop", USAGE)


# -- streams that are wrapped by themselves


def test_a_stream_that_brings_nothing(sink: Sink) -> None:
    with Replay(Reply(b"data: [DONE]\n\n")) as replay, client(replay) as on:
        assert list(wrap(on.chat.completions.create(**CHAT, stream=True), sink, channel="c")) == []
    (got,) = responses(sink, "c")
    assert (got.state, got.text, got.metadata["model"]) == ("complete", "", "m")


def test_a_stream_that_brings_an_error_only(sink: Sink) -> None:
    with Replay(Reply(body({"error": {"message": "Overloaded"}}))) as replay, client(replay) as on:
        stream = wrap(on.chat.completions.create(**CHAT, stream=True), sink, channel="c")
        with pytest.raises(openai.APIError):
            list(stream)
    (got,) = responses(sink, "c")
    assert (got.state, got.error) == ("failed", "Overloaded")


# -- helpers that cannot make of a reply what was asked for


class Answer(BaseModel):
    a: int


CUT = body(chunk({"content": '{"a":'}), chunk({}, "length"), done=True)
WRONG = body(chunk({"content": '{"b": 1}'}), chunk({}, "stop"), done=True)


@pytest.mark.parametrize(("served", "finish"), [(CUT, "length"), (WRONG, None)], ids=["cut", "not"])
@pytest.mark.parametrize("whose", ["client", "manager"])
def test_a_helper_that_cannot_parse(
    served: bytes, finish: str | None, whose: str, sink: Sink
) -> None:
    with Replay(Reply(served)) as replay, client(replay) as on:
        if whose == "client":
            wrap(on, sink, channel="c")
        manager = on.chat.completions.stream(**CHAT, response_format=Answer)
        if whose == "manager":
            wrap(manager, sink, channel="c")
        with pytest.raises(Exception) as raised, manager as stream:
            stream.until_done()
    got = ended(sink, "c")
    assert got.state == "failed"
    assert got.text.startswith('{"')
    assert got.error is not None
    assert type(raised.value).__name__ in got.error or str(raised.value)[:40] in got.error
    if finish is not None:
        assert got.finish_reason == finish


async def test_a_helper_that_cannot_parse_async(sink: Sink) -> None:
    async with Replay(Reply(CUT)) as replay, aclient(replay) as on:
        wrap(on, sink, channel="c")
        with pytest.raises(openai.LengthFinishReasonError):
            async with on.chat.completions.stream(**CHAT, response_format=Answer) as stream:
                await stream.until_done()
    assert ended(sink, "c").state == "failed"


# -- the Responses API


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 1, **fields}


def whole(*output: dict[str, Any], status: str = "completed", **more: Any) -> dict[str, Any]:
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
    }
    return {**response, "output": list(output), "tools": [], **more}


def said(sink: Sink, *events: dict[str, Any]) -> Response:
    with Replay(Reply(body(*events, named=True))) as replay, client(replay) as on:
        for _ in wrap(on, sink, channel="c").responses.create(model="m", input="x", stream=True):
            pass
    return ended(sink, "c")


def item(sink: Sink, reported: dict[str, Any], *between: dict[str, Any]) -> Response:
    """A response with one item, which is told of in all three ways."""
    return said(
        sink,
        event("created", response=whole(status="in_progress")),
        event("queued", response=whole(status="queued")),
        event("in_progress", response=whole(status="in_progress")),
        event("output_item.added", output_index=0, item=reported),
        *between,
        event("output_item.done", output_index=0, item=reported),
        event("completed", response=whole(reported)),
    )


@pytest.mark.parametrize("kind", ["audio.transcript", "output_audio_transcript"])
def test_responses_speech(kind: str, sink: Sink) -> None:
    place = {} if kind.startswith("audio") else {"output_index": 0, "content_index": 0}
    spoken = {"type": "output_audio", "transcript": "Hello", "data": "UklGRg=="}
    reported = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
    got = item(
        sink,
        {**reported, "content": [spoken]},
        event(f"{kind}.delta", delta="Hel", **place),
        event("audio.delta", delta="UklGRg=="),
        event(f"{kind}.delta", delta="lo", **place),
        event("audio.done"),
        event(f"{kind}.done"),
    )
    assert parts(got) == [("text", "Hello")]


CALLED = {"call_id": "k", "id": "i", "status": "completed"}


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({**CALLED, "type": "local_shell_call", "action": {"type": "exec", "command": ["ls"]}},
         ("tool_call", '{"command": ["ls"], "type": "exec"}', "local_shell", "k")),
        ({**CALLED, "type": "shell_call", "action": {"commands": ["ls"]}},
         ("tool_call", '{"commands": ["ls"]}', "shell", "k")),
        ({**CALLED, "type": "apply_patch_call", "operation": {"path": "a", "type": "delete_file"}},
         ("tool_call", '{"path": "a", "type": "delete_file"}', "apply_patch", "k")),
        ({**CALLED, "type": "computer_call", "action": {"type": "screenshot"},
          "pending_safety_checks": []},
         ("tool_call", '{"type": "screenshot"}', "computer", "k")),
        ({**CALLED, "type": "tool_search_call", "arguments": {"q": 1}, "execution": "client"},
         ("tool_call", '{"q": 1}', "tool_search", "k")),
        ({"id": "i", "type": "web_search_call", "status": "completed",
          "action": {"type": "open_page", "url": "https://x.example"}},
         ("tool_call", '{"type":"open_page","url":"https://x.example"}', "web_search", "i")),
        ({"id": "i", "type": "file_search_call", "status": "completed", "queries": ["q"],
          "results": None}, ("tool_call", '{"queries":["q"]}', "file_search", "i")),
        ({"id": "i", "type": "mcp_list_tools", "server_label": "s", "tools": []},
         ("data", "", "mcp_list_tools")),
        ({"id": "i", "type": "mcp_approval_request", "server_label": "s", "name": "n",
          "arguments": "{}"}, ("data", "", "mcp_approval_request")),
        ({"id": "i", "type": "of_tomorrow", "x": 1}, ("data", "", "of_tomorrow")),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_responses_items(reported: dict[str, Any], expected: tuple[Any, ...], sink: Sink) -> None:
    got = item(sink, reported)
    assert parts(got) == [expected]
    assert got.state == "complete"
    assert "iVBO" not in repr(got)


@pytest.mark.parametrize("kind", ["compaction", "reasoning"])
def test_responses_items_that_only_the_provider_can_read(kind: str, sink: Sink) -> None:
    got = item(sink, {"id": "i", "type": kind, "encrypted_content": "gAAA", "summary": []})
    assert got.parts == ()


def test_responses_tool_outputs(sink: Sink) -> None:
    reported = {**CALLED, "type": "shell_call_output", "output": [{"stdout": "a", "stderr": ""}]}
    got = item(sink, reported)
    assert [(r.call_id, r.output) for r in got.tool_results] == [
        ("k", [{"stdout": "a", "stderr": ""}])
    ]


def test_responses_arguments_as_they_grow(sink: Sink) -> None:
    place = {"output_index": 0, "item_id": "i"}
    reported = {"id": "i", "type": "custom_tool_call", "call_id": "k", "name": "sh", "input": ""}
    got = said(
        sink,
        event("output_item.added", output_index=0, item=reported),
        event("custom_tool_call_input.delta", delta="l", **place),
        event("custom_tool_call_input.delta", delta="s", **place),
        event("custom_tool_call_input.done", input="ls", **place),
        event("output_item.done", output_index=0, item={**reported, "input": "ls"}),
        event("output_item.added", output_index=1, item={"id": "j", "type": "code_interpreter_call",
              "status": "in_progress", "code": "", "container_id": "x", "outputs": None}),
        event("code_interpreter_call.in_progress", output_index=1, item_id="j"),
        event("code_interpreter_call_code.delta", delta="1+1", output_index=1, item_id="j"),
        event("code_interpreter_call_code.done", code="1+1", output_index=1, item_id="j"),
        event("code_interpreter_call.interpreting", output_index=1, item_id="j"),
        event("code_interpreter_call.completed", output_index=1, item_id="j"),
        event("output_item.done", output_index=1, item={"id": "j", "type": "code_interpreter_call",
              "status": "completed", "code": "1+1", "container_id": "x",
              "outputs": [{"type": "logs", "logs": "2"}]}),
        event("output_item.added", output_index=2, item={"id": "m", "type": "mcp_call",
              "server_label": "s", "name": "ask", "arguments": ""}),
        event("mcp_call.in_progress", output_index=2, item_id="m"),
        event("mcp_call_arguments.delta", delta="{}", output_index=2, item_id="m"),
        event("mcp_call_arguments.done", arguments="{}", output_index=2, item_id="m"),
        event("mcp_call.failed", output_index=2, item_id="m"),
        event("output_item.done", output_index=2, item={"id": "m", "type": "mcp_call",
              "server_label": "s", "name": "ask", "arguments": "{}", "error": "no such server"}),
        event("completed", response=whole()),
    )  # fmt: skip
    assert parts(got) == [
        ("tool_call", "ls", "sh", "k"),
        ("tool_call", "1+1", "code_interpreter", "j"),
        ("tool_call", "{}", "ask", "m"),
    ]
    assert [(r.call_id, r.output, r.error) for r in got.tool_results] == [
        ("j", [{"type": "logs", "logs": "2"}], None),
        ("m", None, "no such server"),
    ]


def test_responses_text_reasoning_and_sources(sink: Sink) -> None:
    place = {"output_index": 1, "content_index": 0, "item_id": "m"}
    cited = {"type": "url_citation", "url": "https://x.test/", "title": "X",
             "start_index": 0, "end_index": 2}  # fmt: skip
    text = {"type": "output_text", "text": "Hi", "annotations": [cited]}
    reasoning = {"id": "r", "type": "reasoning", "summary": [{"type": "summary_text", "text": "S"}],
                 "content": [{"type": "reasoning_text", "text": "RT"}]}  # fmt: skip
    message = {"id": "m", "type": "message", "role": "assistant", "content": [text],
               "status": "incomplete"}  # fmt: skip
    got = said(
        sink,
        event("reasoning_summary_part.added", output_index=0, summary_index=0, item_id="r",
              part={"type": "summary_text", "text": ""}),
        event("reasoning_summary_text.delta", output_index=0, summary_index=0, item_id="r",
              delta="S"),
        event("reasoning_summary_text.done", output_index=0, summary_index=0, item_id="r",
              text="S"),
        event("reasoning_text.delta", output_index=0, content_index=0, item_id="r", delta="R"),
        event("reasoning_text.delta", output_index=0, content_index=0, item_id="r", delta="T"),
        event("reasoning_text.done", output_index=0, content_index=0, item_id="r", text="RT"),
        event("output_item.done", output_index=0, item=reasoning),
        event("content_part.added", part={**text, "text": ""}, **place),
        event("output_text.delta", delta="Hi", logprobs=[], **place),
        event("output_text.annotation.added", annotation=cited, annotation_index=0, **place),
        event("output_text.done", text="Hi", logprobs=[], **place),
        event("content_part.done", part=text, **place),
        event("output_item.done", output_index=1, item=message),
        event("incomplete", response=whole(reasoning, message, status="incomplete",
              incomplete_details={"reason": "max_output_tokens"})),
    )  # fmt: skip
    assert parts(got) == [
        ("reasoning", "S"),
        ("reasoning", "RT"),
        ("text", "Hi"),
        ("source", ""),
    ]
    assert (got.state, got.finish_reason) == ("complete", "incomplete")


TEXT = {"type": "output_text", "text": "Hello", "annotations": []}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "status": "completed",
           "content": [TEXT]}  # fmt: skip
CALL = {"id": "f", "type": "function_call", "call_id": "k", "name": "n", "arguments": "{}"}
THOUGHT = {"id": "r", "type": "reasoning", "summary": [],
           "content": [{"type": "reasoning_text", "text": "Hm"}]}  # fmt: skip


@pytest.mark.parametrize(
    ("output", "content"), [(-1, -1), (4, 0), (None, None)], ids=["minus", "off", "none"]
)
def test_responses_items_whose_places_disagree(
    output: int | None, content: int | None, sink: Sink
) -> None:
    """The deltas, the item's end and the response's end may each count in their own way."""
    after = None if output is None else output + 1
    got = said(
        sink,
        event("reasoning_text.delta", output_index=output, content_index=content, item_id="r",
              delta="Hm"),
        event("output_text.delta", output_index=after, content_index=content, item_id="m",
              delta="Hello", logprobs=[]),
        event("output_item.done", output_index=after, item=MESSAGE),
        event("output_item.added", output_index=7, item={**CALL, "arguments": ""}),
        event("function_call_arguments.delta", output_index=7, item_id="f", delta="{}"),
        event("output_item.done", output_index=7, item=CALL),
        event("completed", response=whole(THOUGHT, MESSAGE, CALL)),
    )  # fmt: skip
    assert parts(got) == [
        ("reasoning", "Hm"),
        ("text", "Hello"),
        ("tool_call", "{}", "n", "k"),
    ]


@pytest.mark.parametrize(
    ("last", "state", "error"),
    [
        (event("failed", response=whole(status="failed", error={"code": "x", "message": "Broken"})),
         "failed", "Broken"),
        ({"type": "error", "sequence_number": 1, "code": "x", "message": "Too fast", "param": None},
         "failed", "Too fast"),
        (event("cancelled", response=whole(status="cancelled")), "cancelled",
         "the provider cancelled it"),
    ],
    ids=["failed", "error", "cancelled"],
)  # fmt: skip
def test_responses_ends(last: dict[str, Any], state: str, error: str, sink: Sink) -> None:
    got = said(sink, event("created", response=whole(status="in_progress")), last)
    assert (got.state, got.error) == (state, error)
