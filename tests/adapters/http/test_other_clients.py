"""urllib3, requests and aiohttp: what a model sends is published, and nothing is changed."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from tests.adapters.http.clients import CHAT, WHOLE, cancel_while_it_reads, listening
from tests.adapters.http.test_httpx import ERROR, REPLY, REQUESTS, TEXT
from tests.support.needs import needs
from tests.support.recordings import Recording, parameters
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import check, ended, responses
from tokenwire import Sink
from tokenwire_adapters._agents.http.retries import RETRIES

needs("aiohttp", "requests", "urllib3")

import aiohttp
import requests
import urllib3


class Way:
    """One way to read a reply: in pieces, of which at most `limit`, or whole."""

    module = "urllib3"
    errors: tuple[type[Exception], ...] = (urllib3.exceptions.HTTPError, requests.RequestException)

    def read(self, url: str, body: Any, limit: int | None = None) -> bytes:
        raise NotImplementedError


def _take(pieces: Any, limit: int | None) -> bytes:
    taken: list[bytes] = []
    for piece in pieces:
        taken.append(piece)
        if len(taken) == limit:
            break
    return b"".join(taken)


JSON_HEADERS = {"content-type": "application/json"}  # urllib3 1.26 knows no `json=`


class Urllib3(Way):
    """`HTTPResponse.stream`, which reads chunks as they come."""

    preload = False

    def pieces(self, response: Any) -> Any:
        return response.stream(decode_content=True)

    def read(self, url: str, body: Any, limit: int | None = None) -> bytes:
        with urllib3.PoolManager(retries=False) as pool:
            data = json.dumps(body).encode()
            response = pool.request(
                "POST", url, body=data, headers=JSON_HEADERS, preload_content=False
            )
            try:
                return _take(self.pieces(response), limit)
            finally:
                response.close()


class Urllib3Read1(Urllib3):
    """`HTTPResponse.read1`, likewise."""

    def pieces(self, response: Any) -> Any:
        while True:
            piece = response.read1(decode_content=True)
            if not piece:
                return
            yield piece


class Urllib3Preload(Way):
    """A reply that urllib3 itself has read."""

    def read(self, url: str, body: Any, limit: int | None = None) -> bytes:
        with urllib3.PoolManager(retries=False) as pool:
            data = json.dumps(body).encode()
            return bytes(pool.request("POST", url, body=data, headers=JSON_HEADERS).data)


class Requests(Way):
    """`Response.iter_content` of requests."""

    def read(self, url: str, body: Any, limit: int | None = None) -> bytes:
        with requests.post(url, json=body, stream=True) as response:
            return _take(response.iter_content(None), limit)


class RequestsLines(Way):
    """`Response.iter_lines` of requests."""

    def read(self, url: str, body: Any, limit: int | None = None) -> bytes:
        with requests.post(url, json=body, stream=True) as response:
            lines = response.iter_lines(chunk_size=1)
            return b"\n".join([_take(lines, limit), b""]) if limit else b"\n".join(lines)


class RequestsWhole(Way):
    """A reply that requests itself has read."""

    def read(self, url: str, body: Any, limit: int | None = None) -> bytes:
        return bytes(requests.post(url, json=body).content)


class Aiohttp(Way):
    """`StreamReader.iter_any` of aiohttp."""

    module = "aiohttp"
    errors = (aiohttp.ClientError,)

    def pieces(self, content: Any) -> Any:
        return content.iter_any()

    async def main(self, url: str, body: Any, limit: int | None) -> bytes:
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            taken: list[bytes] = []
            async for piece in self.pieces(response.content):
                taken.append(piece)
                if len(taken) == limit:
                    break
            return b"".join(taken)

    def read(self, url: str, body: Any, limit: int | None = None) -> bytes:
        return asyncio.run(self.main(url, body, limit))


class AiohttpLines(Aiohttp):
    """Line by line, as `async for` over the body does."""

    def pieces(self, content: Any) -> Any:
        return content


class AiohttpChunks(Aiohttp):
    """By `iter_chunked`."""

    def pieces(self, content: Any) -> Any:
        return content.iter_chunked(50)


class AiohttpWhole(Aiohttp):
    """By `ClientResponse.read`."""

    async def main(self, url: str, body: Any, limit: int | None) -> bytes:
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            return await response.read()


STREAMS: list[Way] = [
    Urllib3(),
    *([Urllib3Read1()] if hasattr(urllib3.HTTPResponse, "read1") else []),  # of urllib3 2.0 on
    Requests(),
    Aiohttp(),
    AiohttpLines(),
    AiohttpChunks(),
]
WHOLES: list[Way] = [Urllib3Preload(), RequestsWhole(), RequestsLines(), AiohttpWhole()]
each_stream = pytest.mark.parametrize("way", STREAMS, ids=lambda way: type(way).__name__)
each_way = pytest.mark.parametrize("way", STREAMS + WHOLES, ids=lambda way: type(way).__name__)


@pytest.mark.parametrize("way", [Urllib3(), Aiohttp()], ids=lambda way: way.module)
@pytest.mark.parametrize("recording", parameters())
def test_every_recording(way: Way, recording: Recording, sink: Sink) -> None:
    if len(recording.expected.texts) > 1:
        pytest.skip("several choices are compared in the tests of the wire")
    path, body = REQUESTS[recording.api]
    with Replay(Reply(recording.body, cuts=1)) as replay, listening(sink, way.module):
        assert way.read(replay.root_url + path, body) == recording.body
    (response,) = responses(sink, "c")
    check(response, recording.expected)


@each_way
@pytest.mark.parametrize("compressed", [False, True])
def test_each_way_to_read(way: Way, compressed: bool, sink: Sink) -> None:
    body, headers = TEXT.body, {}
    if compressed:
        body, headers = gzip.compress(body), {"content-encoding": "gzip"}
    with Replay(Reply(body, headers=headers, cuts=3)) as replay, listening(sink, way.module):
        read = way.read(f"{replay.base_url}/chat/completions", CHAT)
    assert read.replace(b"\n", b"") == TEXT.body.replace(b"\n", b"")
    (response,) = responses(sink, "c")
    check(response, TEXT.expected)


@each_way
def test_a_whole_reply(way: Way, sink: Sink) -> None:
    sent = json.dumps(REPLY).encode()
    headers = {"content-type": "application/json"}
    with Replay(Reply(sent, headers=headers)) as replay, listening(sink, way.module):
        assert way.read(f"{replay.base_url}/chat/completions", WHOLE) == sent
        way.read(f"{replay.base_url}/embeddings", {"input": "x"})
    (response,) = responses(sink, "c")
    assert (response.text, response.state) == ("whole", "complete")


@each_stream
def test_a_stream_that_is_left_early(way: Way, sink: Sink) -> None:
    with Replay(Reply(TEXT.body, gate=Gate(2))) as replay, listening(sink, way.module):
        way.read(f"{replay.base_url}/chat/completions", CHAT, limit=1)
        replay.wait_closed_early()
        assert ended(sink, "c").state == "cancelled"


@each_stream
def test_a_connection_that_breaks(way: Way, sink: Sink) -> None:
    with Replay(Reply(TEXT.body, drop_after=3)) as replay, listening(sink, way.module):
        with pytest.raises(way.errors):
            way.read(f"{replay.base_url}/chat/completions", CHAT)
    assert ended(sink, "c").state == "failed"


@each_stream
@pytest.mark.parametrize("on_cancel", ["end", "raise"])
def test_a_cancel_closes_the_connection(way: Way, on_cancel: Any, sink: Sink) -> None:
    cancel_while_it_reads(lambda url: way.read(url, CHAT), way.module, on_cancel, TEXT.body, sink)


@each_way
def test_errors_and_requests_that_are_sent_again(way: Way, sink: Sink) -> None:
    busy = Reply(ERROR, status=429)
    with Replay(busy, TEXT.body, busy) as replay, listening(sink, way.module):
        url = f"{replay.base_url}/chat/completions"
        asked_again(way, url)
        asked_again(way, url, times=1)
        RETRIES.give_up_all()
    first, second = responses(sink, "c")
    check(first, TEXT.expected)
    assert (second.state, second.error) == ("failed", "slow down")


def asked_again(way: Way, url: str, times: int = 2) -> None:
    """Send a request several times, from one thread or task, as an SDK that retries does."""

    async def main(way: Aiohttp) -> None:
        for _ in range(times):
            await way.main(url, CHAT, None)

    if isinstance(way, Aiohttp):
        asyncio.run(main(way))
    else:
        for _ in range(times):
            way.read(url, CHAT)


@each_way
def test_a_redirect_is_one_response(way: Way, sink: Sink) -> None:
    moved = Reply(b"", status=307, headers={"location": "/v1/chat/completions"})
    with Replay(moved, TEXT.body) as replay, listening(sink, way.module):
        if way.module == "urllib3" and "Urllib3" in type(way).__name__:
            pytest.skip("its pools are told not to follow")
        way.read(f"{replay.base_url}/chat/completions", CHAT)
    (response,) = responses(sink, "c")
    check(response, TEXT.expected)


def test_a_response_stays_what_it_is(sink: Sink) -> None:
    with Replay(TEXT.body) as replay, listening(sink, "urllib3"):
        url = f"{replay.base_url}/chat/completions"
        with urllib3.PoolManager() as pool:
            data = json.dumps(CHAT).encode()
            response = pool.request(
                "POST", url, body=data, headers=JSON_HEADERS, preload_content=False
            )
            assert isinstance(response, urllib3.HTTPResponse)
            assert type(response).__name__ == "HTTPResponse"
            assert json.dumps(dict(response.headers))
            response.drain_conn()
            response.release_conn()
    check(ended(sink, "c"), TEXT.expected)
