"""Each event of the Messages API that no recording has, from its reference, through the SDK."""

import inspect
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from tests.adapters.anthropic.clients import aclient, client
from tests.support.replay import Replay, Reply
from tests.support.sdk import ended, responses
from tests.support.sse import body, parts
from tokenwire import Response, Sink
from tokenwire_adapters.anthropic import wrap

ARGUMENTS: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": []}
BEGAN = {"input_tokens": 7, "output_tokens": 1, "cache_read_input_tokens": 3}
MESSAGE = {"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": [],
           "stop_reason": None, "stop_sequence": None, "usage": BEGAN}  # fmt: skip


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    reported = {"type": f"{kind}_delta", **fields}
    return {"type": "content_block_delta", "index": index, "delta": reported}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def whole(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    return [start(index, block), stop(index)]


def message(
    *events: dict[str, Any], reason: str = "end_turn", usage: dict[str, Any] | None = None
) -> bytes:
    return body(
        {"type": "message_start", "message": MESSAGE},
        {"type": "ping"},
        *events,
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": usage or {"output_tokens": 5},
        },
        {"type": "message_stop"},
        named=True,
    )


def said(sink: Sink, served: bytes) -> Response:
    """The same through both of the SDK's APIs."""
    with Replay(Reply(served)) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        for api in (on.messages, on.beta.messages):
            for _ in api.create(**ARGUMENTS, stream=True):
                pass
    plain, beta = responses(sink, "c")
    assert plain.parts == beta.parts
    assert (plain.state, plain.usage, plain.error) == (beta.state, beta.usage, beta.error)
    return plain


@pytest.mark.parametrize(
    "reason",
    ["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "compaction", "refusal",
     "model_context_window_exceeded", "of_tomorrow"],
)  # fmt: skip
def test_stop_reasons_and_usage(reason: str, sink: Sink) -> None:
    hi = [start(0, {"type": "text", "text": ""}), delta(0, "text", text="Hi"), stop(0)]
    usage = {"output_tokens": 5, "server_tool_use": {"web_search_requests": 1}}
    got = said(sink, message(*hi, reason=reason, usage=usage))
    assert (got.text, got.state, got.finish_reason) == ("Hi", "complete", reason)
    assert got.usage == {"input_tokens": 7, "cache_read_input_tokens": 3, **usage}


def test_thinking_that_is_signed_or_redacted(sink: Sink) -> None:
    got = said(
        sink,
        message(
            start(0, {"type": "thinking", "thinking": "", "signature": ""}),
            delta(0, "thinking", thinking="Hm"),
            delta(0, "thinking", thinking="."),
            delta(0, "signature", signature="EqQB"),
            stop(0),
            *whole(1, {"type": "redacted_thinking", "data": "EmwK"}),
            start(2, {"type": "thinking", "thinking": "", "signature": ""}),
            delta(2, "signature", signature="EqQB"),  # thinking that is not shown at all
            stop(2),
            start(3, {"type": "text", "text": ""}),
            delta(3, "text", text="Hi"),
            stop(3),
        ),
    )
    assert parts(got) == [("reasoning", "Hm."), ("text", "Hi")]
    assert "Eq" not in repr(got)
    assert "Emw" not in repr(got)


CITATIONS = [
    {"type": "char_location", "cited_text": "a", "document_index": 0, "document_title": "D",
     "start_char_index": 0, "end_char_index": 1, "file_id": None},
    {"type": "page_location", "cited_text": "b", "document_index": 0, "document_title": "D",
     "start_page_number": 1, "end_page_number": 2, "file_id": None},
    {"type": "content_block_location", "cited_text": "c", "document_index": 0,
     "document_title": "D", "start_block_index": 0, "end_block_index": 1, "file_id": None},
    {"type": "web_search_result_location", "cited_text": "d", "url": "https://x.test/",
     "title": "X", "encrypted_index": "EqQB"},
    {"type": "search_result_location", "cited_text": "e", "source": "s", "title": None,
     "search_result_index": 0, "start_block_index": 0, "end_block_index": 1},
]  # fmt: skip


def test_citations_of_every_kind(sink: Sink) -> None:
    got = said(
        sink,
        message(
            start(0, {"type": "text", "text": "", "citations": []}),
            *[delta(0, "citations", citation=citation) for citation in CITATIONS],
            delta(0, "text", text="Hi"),
            stop(0),
        ),
    )
    sources = [part.data for part in got.parts if part.kind == "source"]
    assert [source["cited_text"] for source in sources] == ["a", "b", "c", "d", "e"]
    assert got.text == "Hi"
    assert "EqQB" not in repr(got)


def test_a_text_that_begins_with_its_citations(sink: Sink) -> None:
    got = said(
        sink,
        message(*whole(0, {"type": "text", "text": "Hi", "citations": CITATIONS[:2]})),
    )
    assert [part.data["cited_text"] for part in got.parts if part.kind == "source"] == ["a", "b"]


RESULTS: list[tuple[str, Any, Any, str | None]] = [
    ("web_search_tool_result",
     [{"type": "web_search_result", "url": "https://x.test/", "title": "X", "page_age": None,
       "encrypted_content": "EqQB"}],
     [{"type": "web_search_result", "url": "https://x.test/", "title": "X", "page_age": None}],
     None),
    ("web_search_tool_result",
     {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
     {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
     "max_uses_exceeded"),
    ("web_fetch_tool_result",
     {"type": "web_fetch_tool_result_error", "error_code": "url_not_accessible"},
     {"type": "web_fetch_tool_result_error", "error_code": "url_not_accessible"},
     "url_not_accessible"),
    ("code_execution_tool_result",
     {"type": "code_execution_result", "stdout": "2", "stderr": "", "return_code": 0,
      "content": []},
     {"type": "code_execution_result", "stdout": "2", "stderr": "", "return_code": 0,
      "content": []}, None),
    ("bash_code_execution_tool_result",
     {"type": "bash_code_execution_result", "stdout": "2", "stderr": "", "return_code": 0,
      "content": []},
     {"type": "bash_code_execution_result", "stdout": "2", "stderr": "", "return_code": 0,
      "content": []}, None),
    ("text_editor_code_execution_tool_result",
     {"type": "text_editor_code_execution_create_result", "is_file_update": False},
     {"type": "text_editor_code_execution_create_result", "is_file_update": False}, None),
    ("tool_search_tool_result",
     {"type": "tool_search_tool_search_result",
      "tool_references": [{"type": "tool_reference", "tool_name": "f"}]},
     {"type": "tool_search_tool_search_result",
      "tool_references": [{"type": "tool_reference", "tool_name": "f"}]}, None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "content", "output", "error"), RESULTS)
def test_server_tools(kind: str, content: Any, output: Any, error: str | None, sink: Sink) -> None:
    called = {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}}
    got = said(
        sink,
        message(
            start(0, called),
            delta(0, "input_json", partial_json=""),
            delta(0, "input_json", partial_json='{"query": '),
            delta(0, "input_json", partial_json='"q"}'),
            stop(0),
            *whole(1, {"type": kind, "tool_use_id": "srv", "content": content}),
        ),
    )
    assert parts(got) == [("tool_call", '{"query": "q"}', "web_search", "srv")]
    assert [(r.call_id, r.output, r.error) for r in got.tool_results] == [("srv", output, error)]


@pytest.mark.parametrize(("failed", "error"), [(False, None), (True, "the tool failed")])
def test_mcp_tools(failed: bool, error: str | None, sink: Sink) -> None:
    called = {"type": "mcp_tool_use", "id": "mcp", "name": "ask", "server_name": "s", "input": {}}
    text = [{"type": "text", "text": "42"}]
    result = {"type": "mcp_tool_result", "tool_use_id": "mcp", "is_error": failed, "content": text}
    got = said(sink, message(*whole(0, called), *whole(1, result)))
    assert parts(got) == [("tool_call", "{}", "ask", "mcp")]
    assert [(r.call_id, r.output, r.error) for r in got.tool_results] == [("mcp", text, error)]


def test_input_that_comes_whole(sink: Sink) -> None:
    """Without deltas, as some servers that speak this API send it."""
    called = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "ü"}}
    got = said(sink, message(*whole(0, called), reason="tool_use"))
    assert parts(got) == [("tool_call", '{"a": "ü"}', "f", "t")]


def test_blocks_of_their_own(sink: Sink) -> None:
    models = {"from": {"model": "a"}, "to": {"model": "b"}, "trigger": {"type": "refusal"}}
    got = said(
        sink,
        message(
            *whole(0, {"type": "container_upload", "file_id": "file_1"}),
            *whole(1, {"type": "fallback", **models}),
            *whole(2, {"type": "mcp_tool_listing", "mcp_server_name": "s", "tools": []}),
            start(3, {"type": "compaction", "content": None}),
            delta(3, "compaction", content="a summary for the provider"),
            stop(3),
            *whole(4, {"type": "of_tomorrow", "x": 1}),
            start(5, {"type": "text", "text": "Hi"}),
            delta(5, "of_tomorrow", x=1),
            stop(5),
        ),
    )
    assert parts(got) == [
        ("file", "", "container_upload"),
        ("data", "", "fallback"),
        ("data", "", "mcp_tool_listing"),
        ("text", "Hi"),
    ]
    assert got.parts[0].data["file_id"] == "file_1"
    assert got.parts[1].data["to"] == {"model": "b"}


@pytest.mark.parametrize("whose", ["client", "stream"])
@pytest.mark.parametrize("began", [True, False])
def test_an_error_event(whose: str, began: bool, sink: Sink) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    text = [start(0, {"type": "text", "text": ""}), delta(0, "text", text="Hi")]
    first = [{"type": "message_start", "message": MESSAGE}, *text] if began else []
    served = body(*first, error, named=True)
    with Replay(Reply(served)) as replay, client(replay) as on:
        if whose == "client":
            wrap(on, sink, channel="c")
        stream = on.messages.create(**ARGUMENTS, stream=True)
        if whose == "stream":
            wrap(stream, sink, channel="c")
        with pytest.raises(anthropic.APIError):
            list(stream)
    (got,) = responses(sink, "c")
    assert (got.state, got.error, got.text) == ("failed", "Overloaded", "Hi" if began else "")


class Answer(BaseModel):
    a: int


WRONG = message(start(0, {"type": "text", "text": ""}), delta(0, "text", text='{"b": 1}'), stop(0))


def _messages(on: Any) -> Any:
    """The API whose helper parses: before anthropic 0.77, only the beta one does."""
    parses = "output_format" in inspect.signature(on.messages.stream).parameters
    return on.messages if parses else on.beta.messages


def test_a_helper_that_cannot_parse(sink: Sink) -> None:
    with Replay(Reply(WRONG)) as replay, client(replay) as on:
        wrap(on, sink, channel="c")
        with (
            pytest.raises(Exception, match=r"(?i)valid"),
            _messages(on).stream(**ARGUMENTS, output_format=Answer) as stream,
        ):
            stream.get_final_message()
    got = ended(sink, "c")
    assert (got.state, got.text) == ("failed", '{"b": 1}')
    assert got.error


async def test_a_helper_that_cannot_parse_async(sink: Sink) -> None:
    async with Replay(Reply(WRONG)) as replay, aclient(replay) as on:
        wrap(on, sink, channel="c")
        with pytest.raises(Exception, match=r"(?i)valid"):
            async with _messages(on).stream(**ARGUMENTS, output_format=Answer) as stream:
                await stream.get_final_message()
    assert ended(sink, "c").state == "failed"
