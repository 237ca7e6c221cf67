"""The local provider as a server: clients that leave, bounds and errors, the command."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tokenwire_adapters
from tests.support.provider import (
    LONG,
    SLOW,
    anthropic,
    async_chat_client,
    chat_client,
    claude_client,
    clients,
    openai,
    opened,
    user,
)
from tokenwire_adapters.testing.provider import Limits, Provider, serve_in_thread

ADAPTERS = Path(tokenwire_adapters.__file__).parents[1]


@pytest.fixture(scope="module")
def fast():
    with serve_in_thread(pace=0) as provider:
        yield provider


@pytest.fixture(autouse=True)
def _close_clients():
    with clients:
        yield


@pytest.fixture(scope="module")
def slow():
    with serve_in_thread(pace=SLOW) as provider:
        yield provider


# ---------------------------------------------------------------- clients that leave


def check_left(record, seen):
    assert record.wait() == "closed_early"
    assert record.closed_early
    assert record.tokens_sent < record.tokens_planned
    assert record.sent_text.startswith(seen)
    assert record.text.startswith(record.sent_text)


def test_closing_a_chat_stream_is_noticed(slow):
    before = slow.counters.closed_early
    stream = chat_client(slow).chat.completions.create(model="m", messages=user(LONG), stream=True)
    seen = ""
    for chunk in stream:
        seen += chunk.choices[0].delta.content or ""
        if len(seen) > 10:
            break
    stream.close()
    check_left(slow.record(chunk.id), seen)
    assert slow.counters.closed_early == before + 1


def test_leaving_a_responses_helper_is_noticed(slow):
    seen = ""
    with chat_client(slow).responses.stream(model="m", input=LONG) as stream:
        for event in stream:
            if event.type == "response.created":
                record = slow.record(event.response.id)
            if event.type == "response.output_text.delta":
                seen += event.delta
                if len(seen) > 10:
                    break
    check_left(record, seen)


def test_leaving_a_messages_helper_is_noticed(slow):
    seen = ""
    request = {"model": "m", "max_tokens": 4000, "messages": user(LONG)}
    with claude_client(slow).messages.stream(**request) as stream:
        for text in stream.text_stream:
            seen += text
            if len(seen) > 10:
                break
        record = slow.record(stream.current_message_snapshot.id)
    check_left(record, seen)


async def test_a_cancelled_task_is_noticed():
    async with Provider(pace=SLOW) as provider, async_chat_client(provider) as client:
        seen = []
        enough = asyncio.Event()

        async def read():
            stream = await client.chat.completions.create(
                model="m", messages=user(LONG), stream=True
            )
            async for chunk in stream:
                seen.append(chunk.choices[0].delta.content or "")
                if len(seen) == 5:
                    enough.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(enough.wait(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (record,) = provider.records
        assert await record.wait_async() == "closed_early"
        assert record.sent_text.startswith("".join(seen))


async def test_leaving_a_request_that_does_not_stream_is_noticed():
    async with Provider(pace=SLOW) as provider, async_chat_client(provider) as client:
        task = asyncio.create_task(client.chat.completions.create(model="m", messages=user(LONG)))
        record = await provider.wait_for_replies_async(1)
        assert (record.stream, record.tokens_sent) == (False, 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await record.wait_async() == "closed_early"


async def test_a_slow_close_does_not_wait_for_the_next_token():
    # One token in ten minutes: only the close itself can end this in time.
    async with Provider(pace=1 / 600) as provider, async_chat_client(provider) as client:
        stream = await client.chat.completions.create(model="m", messages=user(LONG), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.response.aclose()
        (record,) = provider.records
        assert await record.wait_async() == "closed_early"
        assert record.tokens_sent == 1


async def test_closing_the_provider_ends_its_replies():
    provider = Provider(pace=SLOW)
    async with provider, async_chat_client(provider) as client:
        stream = await client.chat.completions.create(model="m", messages=user(LONG), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await provider.aclose()
        with pytest.raises(Exception, match=r"(?i)connection|peer|incomplete"):
            async for _ in stream:
                pass
    assert provider.records[0].outcome == "stopped"
    assert provider.counters.running == 0


def test_pace_is_kept(slow):
    # Only a lower bound: a busy machine may always be slower.
    began = time.monotonic()
    stream = chat_client(slow).chat.completions.create(
        model="m", messages=user(LONG), stream=True, max_tokens=10
    )
    assert len([c for c in stream if c.choices[0].delta.content]) == 10
    assert time.monotonic() - began >= 9 / SLOW * 0.95


def test_length_is_exact():
    for length in (1, 700):
        with serve_in_thread(pace=0, length=length) as provider:
            reply = chat_client(provider).chat.completions.create(model="m", messages=user("hi"))
            assert reply.usage.completion_tokens == length
            assert reply.choices[0].message.content == provider.records[-1].text


# ---------------------------------------------------------------- errors and bounds


def raw(provider, request, *, half_close=False):
    """Send bytes, return the status and the body of the answer."""
    with socket.create_connection(("127.0.0.1", provider.port), timeout=60) as client:
        client.sendall(request)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        data = b""
        while piece := client.recv(65536):
            data += piece
    if not data:
        return None, None
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


def post(path, body, *headers):
    lines = [f"POST {path} HTTP/1.1", "connection: close", f"content-length: {len(body)}", *headers]
    return "\r\n".join((*lines, "", "")).encode() + body


def test_models(fast):
    names = {"local-writer", "local-reasoner"}
    client = chat_client(fast)
    assert {model.id for model in client.models.list()} == names
    assert client.models.retrieve("local-writer").id == "local-writer"
    assert {model.id for model in claude_client(fast).models.list()} == names
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-0")


def test_base_urls_with_and_without_version(fast):
    root = f"http://127.0.0.1:{fast.port}"
    for base_url in (root, f"{root}/v1"):
        chat = opened(openai.OpenAI(base_url=base_url, api_key="unused"))
        assert chat.chat.completions.create(model="m", messages=user("hi")).choices
        claude = opened(anthropic.Anthropic(base_url=base_url, api_key="unused"))
        assert claude.messages.create(model="m", max_tokens=9, messages=user("hi")).content
    azure = opened(
        openai.AzureOpenAI(azure_endpoint=root, api_key="unused", api_version="2024-10-21")
    )
    assert azure.chat.completions.create(model="m", messages=user("hi")).choices


def test_bad_requests_in_the_shape_of_their_api(fast):
    refused = fast.counters.refused
    client, claude = chat_client(fast), claude_client(fast)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=[])
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=user("x"), n=99)
    assert caught.value.param == "n"
    with pytest.raises(openai.BadRequestError, match="input"):
        client.responses.create(model="m", input=[])
    with pytest.raises(openai.NotFoundError, match="/v1/embeddings"):
        client.embeddings.create(model="m", input="x")
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(model="", max_tokens=9, messages=user("x"))
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model="m", messages=user("x"))
    assert fast.counters.refused == refused + 6
    status, body = raw(fast, post("/v1/messages", b"{nope"))
    assert (status, body["type"]) == (400, "error")
    status, body = raw(fast, post("/v1/chat/completions", b"{nope"))
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


def test_a_key_can_be_required():
    with serve_in_thread(require_key=True, pace=0) as provider:
        status, body = raw(provider, post("/v1/chat/completions", b"{}"))
        assert (status, body["error"]["type"]) == (401, "authentication_error")
        status, body = raw(provider, post("/v1/messages", b"{}"))
        assert (status, body["error"]["type"]) == (401, "authentication_error")
        reply = chat_client(provider).chat.completions.create(model="m", messages=user("hi"))
        assert reply.choices
        assert claude_client(provider).messages.create(model="m", max_tokens=9, messages=user("hi"))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /v1/models HTTP/2.0\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nno colon here\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nbad : name\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\ncontent-length: \xb2\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"POST /v1/responses HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /v1/responses HTTP/1.1\r\ncontent-length: 100001\r\n\r\n", 413),
        (b"POST /v1/responses HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET /v1/responses HTTP/1.0\r\n\r\n", 405),
        (b"DELETE /v1/models HTTP/1.0\r\n\r\n", 405),
        (b"GET /v1/chat/completions/x HTTP/1.0\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\n\r\n", 404),
        (b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 100\r\n\r\n{", None),
        (b"", None),
    ],
)
def test_malformed_and_oversized_requests(request_bytes, status):
    with serve_in_thread(limits=Limits(body=100_000)) as provider:
        cut = status is None
        answered, body = raw(provider, request_bytes, half_close=cut)
        assert answered == status
        assert cut or body["error"]["message"]
        assert not provider.records


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"x"',
        b'{"model": 1}',
        b'{"model": "m", "messages": "x"}',
        b'{"model": "m", "messages": [1]}',
        b'{"model": "m", "messages": [{}], "stream": "yes"}',
        b'{"model": "m", "messages": [{}], "max_tokens": -1}',
        b'{"model": "m", "messages": [{}], "n": true}',
        b'{"model": "m", "messages": [{}], "tools": [' + b"1," * 200 + b"1]}",
        b"[" * 90_000,
        b"\xff\xfe",
        b'{"model": "m", "messages": [{}], "x": NaN}',
        b'{"model": "m", "messages": [{}], "x": 1e999}',
    ],
)
def test_bodies_that_are_not_requests(fast, body):
    status, answer = raw(fast, post("/v1/chat/completions", body))
    assert status == 400
    assert answer["error"]["message"]


def test_hostile_values_still_get_a_reply(fast):
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "lone \ud800 surrogate, 1e400 9e999"}],
        "tools": [
            {"type": "function", "function": {"name": "\ud801 tree", "parameters": tree}},
            {"type": "function", "function": {"name": "b", "parameters": {"$ref": "#/x/y"}}},
            {"type": "function", "function": {"name": "c", "parameters": {"type": 7, "enum": 3}}},
        ],
    }
    for path in ("/v1/chat/completions", "/v1/responses"):
        request = {**body, "input": body["messages"]}
        status, answer = raw(fast, post(path, json.dumps(request).encode()))
        assert (status, answer["model"]) == (200, "m")


def test_one_connection_serves_many_requests(fast):
    request = post(
        "/v1/chat/completions", json.dumps({"model": "m", "messages": user("hi")}).encode()
    )
    with socket.create_connection(("127.0.0.1", fast.port), timeout=60) as client:
        keep = request.replace(b"connection: close\r\n", b"")
        client.sendall(keep + keep + request)  # without waiting for answers
        data = b""
        while piece := client.recv(65536):
            data += piece
    assert data.count(b"HTTP/1.1 200 OK") == 3


def test_a_stream_in_chunks_says_that_it_is_whole(fast):
    body = json.dumps({"model": "m", "messages": user("hi"), "stream": True})
    connection = http.client.HTTPConnection("127.0.0.1", fast.port, timeout=60)
    for _ in range(2):  # the same connection serves another request
        connection.request("POST", "/v1/chat/completions", body)
        reply = connection.getresponse()
        assert reply.getheader("transfer-encoding") == "chunked"
        assert reply.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_http_1_0_streams_until_the_end_of_the_connection(fast):
    body = json.dumps({"model": "m", "messages": user("hi"), "stream": True}).encode()
    request = post("/v1/chat/completions", body).replace(b"HTTP/1.1", b"HTTP/1.0")
    with socket.create_connection(("127.0.0.1", fast.port), timeout=60) as client:
        client.sendall(request)
        data = b""
        while piece := client.recv(65536):
            data += piece
    assert b"transfer-encoding" not in data
    assert data.endswith(b"data: [DONE]\n\n")


def test_bad_options():
    with pytest.raises(ValueError, match="pace"):
        Provider(pace=-1)
    with serve_in_thread() as provider, pytest.raises(OSError), serve_in_thread(port=provider.port):
        pass
    with pytest.raises(LookupError):
        provider.record("nope")
    with pytest.raises(TimeoutError):
        provider.wait_for_replies(1, timeout=0)


def test_records_are_bounded():
    with serve_in_thread(pace=0, keep=2) as provider:
        for _ in range(3):
            chat_client(provider).chat.completions.create(model="m", messages=user("hi"))
        assert len(provider.records) == 2
        provider.wait_for_replies(3, timeout=0)


# ---------------------------------------------------------------- as a program


def test_it_needs_the_standard_library_alone():
    code = (
        f"import sys; sys.path.insert(0, {str(ADAPTERS)!r});"
        "import tokenwire_adapters.testing.provider;"
        "print({n.partition('.')[0] for n in sys.modules} - sys.stdlib_module_names)"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert out.stdout.strip() in (
        "{'tokenwire_adapters', '__main__'}",
        "{'__main__', 'tokenwire_adapters'}",
        "{'tokenwire_adapters'}",
    )


def test_run_as_a_module():
    program = subprocess.Popen(
        [sys.executable, "-m", "tokenwire_adapters.testing.provider", "--port", "0", "--pace", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ADAPTERS)},
    )
    try:
        base_url = program.stdout.readline().strip()
        client = opened(openai.OpenAI(base_url=base_url, api_key="unused"))
        assert client.chat.completions.create(model="m", messages=user("hi")).choices
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
