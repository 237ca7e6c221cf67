"""What all wires have in common: encodings, wrong types, errors, cuts and what is too large."""

import gzip
import json
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.needs import needs

needs("zstandard")

import zstandard

from tests.adapters.wires.reading import JSON, SSE, cuts, read, wire_of
from tests.support.recordings import named
from tests.support.sdk import check, fresh_sink, responses
from tests.support.sse import body, parts
from tokenwire.instrument import Options
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF
from tokenwire_adapters._agents.wires import json_stream, sse
from tokenwire_adapters._agents.wires.reply import ReplyReader

URL = "https://api.openai.com/v1/chat/completions"
REQUEST: dict[str, Any] = {"model": "m", "messages": [], "stream": True}
RECORDING = named("chat-escapes")


def _raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]) + bytes(8),
    "deflate": zlib.compress,
    "Deflate": _raw_deflate,
    "zstd": zstandard.compress,
    "identity": bytes,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(sizes=cuts())
def test_content_encodings(encoding: str, sizes: list[int]) -> None:
    data = ENCODINGS[encoding](RECORDING.body)
    headers = {**SSE, "Content-Encoding": encoding}
    (response,) = read(URL, REQUEST, data, headers=headers, sizes=sizes)
    check(response, RECORDING.expected)


def test_what_has_come_is_read_at_once() -> None:
    wire, request = wire_of(URL, REQUEST)
    compressor = zlib.compressobj(wbits=31)
    with fresh_sink() as sink:
        headers = {**SSE, "content-encoding": "gzip"}
        reader = ReplyReader(wire, wire.recorder(Options(sink, "c"), request), 200, headers)
        piece = body({"choices": [{"index": 0, "delta": {"content": "now"}}]})
        reader.feed(compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH))
        assert responses(sink, "c")[0].text == "now"
        reader.close()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_bytes_that_are_not_encoded_so(encoding: str) -> None:
    headers = {**SSE, "content-encoding": encoding}
    (response,) = read(URL, REQUEST, b"\x78" + RECORDING.body, headers=headers)
    assert response.state == "failed"
    assert response.error == f"the reply is not encoded with {encoding}"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress"])
def test_an_encoding_that_is_not_known_here(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("brotli", "brotlicffi", "zstandard", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    headers = {**SSE, "content-encoding": encoding}
    (response,) = read(URL, REQUEST, b"whatever", headers=headers)
    assert response.state == "failed"
    assert response.error == f"cannot read a reply that is encoded with '{encoding}' here"


@pytest.mark.parametrize("encode", [gzip.compress, zstandard.compress])
def test_a_bomb(encode: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 1 << 20)
    headers = {**SSE, "content-encoding": "gzip" if encode is gzip.compress else "zstd"}
    data = encode(b"data: " + bytes(64 << 20))
    (response,) = read(URL, REQUEST, data, headers=headers)
    assert response.error == "an event of the stream is too large to be read"


@pytest.mark.parametrize(
    ("url", "headers", "data"),
    [
        (URL, SSE, b'data: {"choices": [{"index": 0, "delta": {"content": "' + b"x" * 5000),
        (URL, SSE, b"data: x\n" * 1000),
        (URL, JSON, b'{"choices": "' + b"x" * 5000),
        ("/api/chat", {}, b'{"message": "' + b"x" * 5000),
        ("/models/M:streamGenerateContent", JSON, b'[{"candidates": "' + b"x" * 5000),
    ],
)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_what_is_too_large(
    url: str, headers: dict[str, str], data: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 4000)
    monkeypatch.setattr(json_stream, "MAX_REPLY", 4000)
    (response,) = read(url, None, data, headers=headers, sizes=(size,))
    assert response.state == "failed"
    assert response.error is not None
    assert response.error.endswith("is too large to be read")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "x/y; charset=z"])
@given(sizes=cuts())
def test_a_stream_of_another_type(content_type: str, sizes: list[int]) -> None:
    data = b"\xef\xbb\xbf\r\n" + RECORDING.body
    (response,) = read(URL, REQUEST, data, headers={"content-type": content_type}, sizes=sizes)
    check(response, RECORDING.expected)


@given(ending=st.sampled_from([b"\n", b"\r\n", b"\r"]), sizes=cuts())
def test_line_ends(ending: bytes, sizes: list[int]) -> None:
    data = RECORDING.body.replace(b"\r\n", b"\n").replace(b"\n", ending)
    (response,) = read(URL, REQUEST, data, sizes=sizes)
    check(response, RECORDING.expected)


def _whole(**fields: Any) -> bytes:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "Hm."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"object": "chat.completion", "choices": [choice], **fields}).encode()


@pytest.mark.parametrize("headers", [JSON, SSE, {}])
def test_a_whole_reply_though_a_stream_was_asked_for(headers: dict[str, str]) -> None:
    usage = {"prompt_tokens": 1}
    (response,) = read(URL, REQUEST, _whole(usage=usage), headers=headers, sizes=(5,))
    assert parts(response) == [("reasoning", "Hm."), ("text", "Hello")]
    assert (response.state, response.finish_reason) == ("complete", "stop")
    assert response.usage == usage


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"error": {"message": "No such model."}}', "No such model."),
        (b'[{"error": {"message": "No such model."}}]', "No such model."),
        (b'{"detail": "No such model."}', "No such model."),
        (b'{"code": 7}', '{"code": 7}'),
        (b"upstream is away", "upstream is away"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 5000, "x" * 2000),
        (b"", "HTTP status 502"),
    ],
)
@pytest.mark.parametrize("end", ["end", "close", "fail"])
def test_a_status_that_is_an_error(data: bytes, error: str, end: str) -> None:
    (response,) = read(URL, REQUEST, data, headers=JSON, status=502, end=end)
    assert (response.state, response.error) == ("failed", error)


@pytest.mark.parametrize("status", [101, 204, 301, 307])
def test_a_status_without_a_reply(status: int) -> None:
    assert read(URL, REQUEST, b"", headers=JSON, status=status) == []


def test_a_response_that_had_begun_before_a_redirect() -> None:
    wire, request = wire_of(URL, REQUEST)
    with fresh_sink() as sink:
        recorder = wire.recorder(Options(sink, "c"), request)
        recorder.begin()
        ReplyReader(wire, recorder, 307, {}).end()
        (response,) = responses(sink, "c")
    assert (response.state, response.error) == ("failed", "HTTP status 307")


def test_an_error_in_the_stream_ends_it() -> None:
    data = RECORDING.body[:400].rpartition(b"\n\n")[0] + b"\n\n"
    error = {"error": {"message": "Overloaded."}, "usage": {"total_tokens": 3}}
    (response,) = read(URL, REQUEST, data + body(error) + RECORDING.body)
    assert (response.state, response.error) == ("failed", "Overloaded.")
    assert response.usage == {"total_tokens": 3}


@pytest.mark.parametrize(
    "data", [b"{\n\n", b'{"choices": [}\n\n', b"[\xff]\n\n", b"[" * 9999 + b"\n\n"]
)
def test_an_event_that_is_damaged(data: bytes) -> None:
    (response,) = read(URL, REQUEST, b"data: " + data + RECORDING.body)
    assert response.state == "failed"
    assert response.error == "the reply has JSON in it that is damaged"


def test_events_that_are_no_chunks() -> None:
    noise = (
        b": ping\n\ndata:\n\ndata: ping\n\nevent: x\n\nid: 1\nretry: 5\n\ndata: 5\n\nnonsense\n\n"
    )
    (response,) = read(URL, REQUEST, noise + RECORDING.body)
    check(response, RECORDING.expected)


def test_a_last_event_without_its_empty_line() -> None:
    (response,) = read(URL, REQUEST, RECORDING.body.rstrip())
    check(response, RECORDING.expected)


@pytest.mark.parametrize("data", [b"", b" ", b"\n\n", b"data: [DONE]\n\n"])
def test_a_body_without_a_reply(data: bytes) -> None:
    (response,) = read(URL, REQUEST, data)
    assert response.text == ""
    assert response.state == ("complete" if b"DONE" in data else "failed")
    assert response.error == (None if b"DONE" in data else CUT_OFF)


@pytest.mark.parametrize("data", [_whole()[:-9], b"{}x", b"null"])
def test_a_whole_reply_that_is_damaged(data: bytes) -> None:
    (response,) = read(URL, {**REQUEST, "stream": False}, data, headers=JSON)
    assert response.state == "failed"


@given(
    data=st.binary(max_size=300),
    sizes=cuts(),
    type_=st.sampled_from(
        [
            "text/event-stream",
            "application/json",
            "application/x-ndjson",
            "application/vnd.amazon.eventstream",
        ]
    ),
    url=st.sampled_from(
        [URL, "/v1/messages", "/v1/responses", "/api/chat", "/M:streamGenerateContent"]
    ),
)
def test_any_bytes(data: bytes, sizes: list[int], type_: str, url: str) -> None:
    (response,) = read(url, None, data, headers={"content-type": type_}, sizes=sizes)
    assert response.ended
    assert "lost track" not in (response.error or "")
