"""`TokenwireMiddleware`: the channel and run of each request."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

import tokenwire
from tokenwire_adapters.asgi import TokenwireMiddleware

Found = dict[str, Any]


def now() -> Found:
    return {"channel": tokenwire.current_channel(), "run": tokenwire.current_run()}


def app_with(**options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(TokenwireMiddleware, **options)

    @app.get("/async/{chat}")
    async def in_the_loop() -> Found:
        return now()

    @app.get("/thread/{chat}")
    def in_a_thread() -> Found:
        return now()

    @app.get("/task/{chat}")
    async def in_a_task() -> Found:
        async def work() -> Found:
            await asyncio.sleep(0)
            return now()

        return await asyncio.create_task(work())

    @app.get("/body/{chat}")
    async def in_a_streaming_body() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield f"{now()['channel']} "
            yield str(now()["channel"])

        return StreamingResponse(body())

    return app


async def get(app: FastAPI, path: str, **headers: str) -> Any:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get(path, headers=headers)
    return response.json() if "json" in response.headers.get("content-type", "") else response.text


@pytest.mark.parametrize("place", ["async", "thread", "task"])
async def test_both_reach_handlers_threads_and_tasks(place: str) -> None:
    app = app_with(channel="header:X-Chat", run="header:x-run")
    found = await get(app, f"/{place}/7", **{"x-chat": "chat-7", "x-run": "run-7"})
    assert found == {"channel": "chat-7", "run": "run-7"}
    assert tokenwire.current_channel() is None


async def test_they_last_as_long_as_a_streaming_body() -> None:
    assert await get(app_with(channel="path:/body/{chat}"), "/body/7") == "7 7"


@pytest.mark.parametrize(
    ("source", "path", "headers", "channel"),
    [
        ("header:X-Chat", "/async/1", {"X-CHAT": "c"}, "c"),
        ("header:X-Chat", "/async/1", {}, None),
        ("query:chat", "/async/1?chat=a%2Fb", {}, "a/b"),
        ("cookie:chat", "/async/1", {"cookie": 'x=1; chat="c"'}, "c"),
        ("path:/async/{chat}", "/async/42", {}, "42"),
        ("path:/async/{chat}/more", "/async/42", {}, None),
        ("path:/{chat}", "/async/42", {}, None),
        ("path:/other/{chat}", "/async/42", {}, None),
        (lambda scope: scope["path"].rpartition("/")[2], "/async/9", {}, "9"),
        (lambda scope: None, "/async/9", {}, None),
    ],
)
async def test_where_a_channel_can_come_from(
    source: Any, path: str, headers: dict[str, str], channel: str | None
) -> None:
    assert (await get(app_with(channel=source), path, **headers))["channel"] == channel


async def test_every_request_is_a_run_of_its_own_by_default() -> None:
    app = app_with()
    runs = {(await get(app, "/async/1"))["run"] for _ in range(3)}
    assert len(runs) == 3
    assert None not in runs
    assert (await get(app_with(run=""), "/async/1"))["run"] is None


@pytest.mark.parametrize("bad", ["a\nb", "x" * 300, "\x00"])
async def test_what_cannot_be_a_name_harms_no_request(
    bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_with(channel=lambda scope: bad)
    with caplog.at_level(logging.WARNING):
        assert (await get(app, "/async/1"))["channel"] is None
    assert caplog.records


async def test_a_function_that_fails_harms_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def broken(scope: Any) -> str:
        raise RuntimeError("broken")

    with caplog.at_level(logging.WARNING):
        assert (await get(app_with(channel=broken), "/async/1"))["channel"] is None
    assert "broken" in caplog.text


@pytest.mark.parametrize("source", ["X-Chat", "header:", "path:async", "path:/a", "body:x"])
def test_a_source_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"channel|path"):
        TokenwireMiddleware(FastAPI(), channel=source)


async def test_an_agent_writes_where_the_request_says(sink: tokenwire.Sink) -> None:
    app = FastAPI()
    app.add_middleware(TokenwireMiddleware, channel="header:x-chat")

    @app.get("/reply")
    async def reply() -> None:
        with sink.respond() as one, sink.respond() as two:
            one.write("text")
            two.write("text")

    await get(app, "/reply", **{"x-chat": "c"})
    first, second = (await sink.ahistory("c")).items
    assert first.run == second.run
    assert first.run != first.id


async def test_an_agent_writes_for_the_user_of_the_request(
    sink: tokenwire.Sink, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = uuid.uuid4()

    def fields(scope: Any) -> dict[str, Any]:
        return {"user": dict(scope["headers"])[b"x-user"].decode(), "from": "request"}

    app = FastAPI()
    app.add_middleware(TokenwireMiddleware, metadata=fields, run=lambda scope: run_id)

    @app.get("/reply")
    def reply() -> None:
        with sink.respond("c", metadata={"from": "call"}) as response:
            response.write("text")

    for user in ("ann", "bob"):
        await get(app, "/reply", **{"x-user": user})
    replies = (await sink.ahistory("c")).items
    assert [reply.metadata for reply in replies] == [
        {"user": "bob", "from": "call"},
        {"user": "ann", "from": "call"},
    ]
    assert {reply.run for reply in replies} == {str(run_id)}
    with caplog.at_level(logging.WARNING):
        await get(app, "/reply")  # without the header
    assert (await sink.ahistory("c", limit=1)).items[0].metadata == {"from": "call"}
    assert "metadata" in caplog.text
    with pytest.raises(ValueError, match="metadata"):
        TokenwireMiddleware(app, metadata={"user": "all"})  # type: ignore[arg-type]
