"""The connections of OpenAI's SDK, sync and async: what is published of what they receive."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.adapters.websockets.server import (
    USAGE,
    SocketServer,
    completed,
    created,
    done,
    reply,
    text,
)
from tests.support.sdk import ended, responses
from tokenwire import Sink
from tokenwire_adapters import auto
from tokenwire_adapters._agents.stainless.recorder import CUT_OFF
from tokenwire_adapters.openai import unwrap, wrap

# websockets 17 warns of how OpenAI's SDK of that time uses it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:connect\\(\\) must be used as a context manager:DeprecationWarning"
)

CREATE: dict[str, Any] = {"model": "gpt-x", "input": "hi"}
CALL = {"type": "function_call", "id": "fc-1", "call_id": "call-1", "name": "look"}


def client(server: SocketServer) -> OpenAI:
    return OpenAI(base_url=server.url, api_key="x")


def aclient(server: SocketServer) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.url, api_key="x")


def collect(connection: Any, count: int) -> list[Any]:
    return [connection.recv() for _ in range(count)]


def check_reply(sink: Sink, response_text: str = "Hello") -> None:
    response = ended(sink, "c")
    assert response.text == response_text
    assert response.state == "complete"
    assert response.finish_reason == "completed"
    assert response.usage == USAGE
    assert response.metadata["model"] == "gpt-x"
    assert response.metadata["provider"] == "openai"


# -- Responses


@pytest.mark.parametrize("way", ["recv", "iterate", "bytes", "dispatch"])
def test_the_text_of_a_response(server: SocketServer, sink: Sink, way: str) -> None:
    events = reply("r1", "Hel", "lo")
    with wrap(client(server), sink, channel="c").responses.connect() as connection:
        connection.response.create(**CREATE)
        assert responses(sink, "c")[0].state == "streaming"  # as soon as it is asked for
        server.send(*events)
        seen: list[str] = []
        if way == "recv":
            seen = [event.type for event in collect(connection, len(events))]
        elif way == "bytes":
            seen = [json.loads(connection.recv_bytes())["type"] for _ in events]
        else:
            server.close(1000)
            if way == "iterate":
                seen = [event.type for event in connection]
            else:
                connection.on("event", lambda event: seen.append(event.type))
                connection.dispatch_events()
    assert seen == [event["type"] for event in events]
    check_reply(sink)
    assert len(responses(sink, "c")) == 1


def test_the_text_of_a_response_async(server: SocketServer, sink: Sink) -> None:
    async def main() -> list[str]:
        async with wrap(aclient(server), sink, channel="c").responses.connect() as connection:
            await connection.response.create(**CREATE)
            server.send(*reply("r1", "Hel", "lo"))
            await asyncio.to_thread(server.close, 1001)
            return [event.type async for event in connection]

    assert asyncio.run(main())[-1] == "response.completed"
    check_reply(sink)


def test_one_response_after_the_other(server: SocketServer, sink: Sink) -> None:
    with wrap(client(server), sink, channel="c").responses.connect() as connection:
        for number in (1, 2):
            connection.send({"type": "response.create", **CREATE})  # type: ignore[misc]
            server.send(*reply(f"r{number}", f"text {number}"))
            collect(connection, 3)
    assert [response.text for response in responses(sink, "c")] == ["text 1", "text 2"]
    assert len({response.run for response in responses(sink, "c")}) == 2


@pytest.mark.parametrize("lane", ["stream_id", "item_id", "response_id"])
def test_responses_side_by_side(server: SocketServer, sink: Sink, lane: str) -> None:
    def more(name: str) -> dict[str, Any]:
        return {lane: name} if lane != "item_id" else {}

    def item(name: str) -> dict[str, Any]:
        added = {"type": "message", "id": f"msg-{name}", "role": "assistant", "content": []}
        return {"type": "response.output_item.added", "output_index": 0, "item": added}

    events = [
        {**created("a"), **more("a")},
        {**item("a"), **more("a")},
        {**created("b"), **more("b")},
        {**item("b"), **more("b")},
        {**text("a", "A1"), **more("a")},
        {**text("b", "B1"), **more("b")},
        {**text("a", "A2"), **more("a")},
        {**completed("b"), **more("b")},
        {**text("a", "A3"), **more("a")},
        {**completed("a"), **more("a")},
    ]
    with wrap(client(server), sink, channel="c").responses.connect() as connection:
        for name in ("a", "b"):
            connection.send({"type": "response.create", **CREATE, **more(name)})  # type: ignore[misc]
        server.send(*events)
        collect(connection, len(events))
    assert [response.text for response in responses(sink, "c")] == ["A1A2A3", "B1"]
    assert {response.state for response in responses(sink, "c")} == {"complete"}


def test_an_error_ends_the_request_that_it_answers(server: SocketServer, sink: Sink) -> None:
    error = {"type": "error", "status": 400, "error": {"type": "invalid", "message": "no such id"}}
    with wrap(client(server), sink, channel="c").responses.connect() as connection:
        connection.response.create(**CREATE)
        server.send(error, *reply("r1", "next"))
        assert connection.recv().type == "error"
        connection.response.create(**CREATE)
        collect(connection, 3)
    first, second = responses(sink, "c")
    assert (first.state, first.error) == ("failed", "no such id")
    assert (second.state, second.text) == ("complete", "next")


@pytest.mark.parametrize("code", [1000, 1001, 1011])
def test_a_socket_that_closes_midway(server: SocketServer, sink: Sink, code: int) -> None:
    with wrap(client(server), sink, channel="c").responses.connect() as connection:
        connection.response.create(**CREATE)
        server.send(created("r1"), text("r1", "Hel"))
        server.close(code)
        seen: list[str] = []
        try:
            for event in connection:
                seen.append(event.type)  # noqa: PERF401 - it raises
        except ConnectionClosedError:
            assert code == 1011
        else:
            assert code != 1011
    assert seen == ["response.created", "response.output_text.delta"]
    response = ended(sink, "c")
    assert (response.state, response.error, response.text) == ("failed", CUT_OFF, "Hel")


def test_a_client_that_closes_midway(server: SocketServer, sink: Sink) -> None:
    with wrap(client(server), sink, channel="c").responses.connect() as connection:
        connection.response.create(**CREATE)
        server.send(created("r1"), text("r1", "Hel"))
        collect(connection, 2)
    assert ended(sink, "c").state == "cancelled"


def test_a_cancel_closes_a_socket_of_the_responses_api(server: SocketServer, sink: Sink) -> None:
    with wrap(client(server), sink, channel="c").responses.connect() as connection:
        connection.response.create(**CREATE)
        server.send(created("r1"), text("r1", "Hel"))
        collect(connection, 2)
        assert sink.cancel("c", responses(sink, "c")[0].id)
        assert list(connection) == []
    assert server.next_event()["type"] == "response.create"  # type: ignore[index]
    assert server.next_event() is None
    assert ended(sink, "c").state == "cancelled"


def test_a_cancel_leaves_the_others_on_the_socket(server: SocketServer, sink: Sink) -> None:
    lanes = [{"stream_id": "a"}, {"stream_id": "b"}]
    with wrap(client(server), sink, channel="c").responses.connect() as connection:
        for lane in lanes:
            connection.send({"type": "response.create", **CREATE, **lane})  # type: ignore[misc]
        server.send(created("a", **lanes[0]), created("b", **lanes[1]))
        collect(connection, 2)
        assert sink.cancel("c", responses(sink, "c")[0].id)
        server.send(text("a", "lost", **lanes[0]), completed("a", **lanes[0]))
        server.send(text("b", "kept", **lanes[1]), completed("b", **lanes[1]))
        assert len(collect(connection, 4)) == 4
    first, second = responses(sink, "c")
    assert (first.state, first.text) == ("cancelled", "")
    assert (second.state, second.text) == ("complete", "kept")


# -- Realtime


REALTIME = [
    {"type": "session.created", "session": {"model": "gpt-x"}},
    created("r1"),
    {**text("r1", "Hel"), "response_id": "r1"},
    {**text("r1", "lo"), "response_id": "r1"},
    {"type": "response.output_item.added", "response_id": "r1", "output_index": 1, "item": CALL},
    *(
        {
            "type": "response.function_call_arguments.delta",
            "response_id": "r1",
            "item_id": "fc-1",
            "output_index": 1,
            "call_id": "call-1",
            "delta": delta,
        }
        for delta in ('{"a"', ":1}")
    ),
    {
        "type": "response.output_audio.delta",
        "response_id": "r1",
        "item_id": "m2",
        "output_index": 2,
        "content_index": 0,
        "delta": "AAAA",
    },
    {
        "type": "response.output_audio_transcript.delta",
        "response_id": "r1",
        "item_id": "m2",
        "output_index": 2,
        "content_index": 0,
        "delta": " spoken",
    },
    done("r1"),
]


def _sync(server: SocketServer, sink: Sink, events: list[Any]) -> list[str]:
    with wrap(client(server), sink, channel="c").realtime.connect(model="gpt-x") as connection:
        connection.response.create()
        server.send(*events)
        return [event.type for event in collect(connection, len(events))]


def _async(server: SocketServer, sink: Sink, events: list[Any]) -> list[str]:
    async def main() -> list[str]:
        api = wrap(aclient(server), sink, channel="c").realtime
        async with api.connect(model="gpt-x") as connection:
            await connection.response.create()
            server.send(*events)
            return [(await connection.recv()).type for _ in events]

    return asyncio.run(main())


@pytest.mark.parametrize("run", [_sync, _async])
def test_realtime(server: SocketServer, sink: Sink, run: Callable[..., list[str]]) -> None:
    assert run(server, sink, REALTIME) == [event["type"] for event in REALTIME]
    check_reply(sink, "Hello spoken")
    [response] = responses(sink, "c")
    [call] = response.tool_calls
    assert (call.name, call.call_id, call.arguments) == ("look", "call-1", '{"a":1}')
    assert response.metadata["api"] == "realtime"


def test_the_names_of_the_realtime_beta(server: SocketServer, sink: Sink) -> None:
    at = {"response_id": "r1", "item_id": "m", "output_index": 0, "content_index": 0}
    _sync(
        server,
        sink,
        [
            created("r1"),
            {**at, "type": "response.text.delta", "delta": "Hello"},
            {**at, "type": "response.audio_transcript.delta", "delta": " there"},
            done("r1"),
        ],
    )
    check_reply(sink, "Hello there")


def test_a_response_that_the_server_begins(server: SocketServer, sink: Sink) -> None:
    with wrap(client(server), sink, channel="c").realtime.connect(model="gpt-x") as connection:
        events = [created("r1"), {**text("r1", "Hello"), "response_id": "r1"}, done("r1")]
        server.send(*events)
        collect(connection, len(events))
    check_reply(sink)


@pytest.mark.parametrize(
    ("status", "more", "state", "error"),
    [
        ("incomplete", {"status_details": {"reason": "max_output_tokens"}}, "complete", None),
        ("cancelled", {}, "cancelled", "the provider cancelled it"),
        ("failed", {"status_details": {"error": {"code": "oh"}}}, "failed", "oh"),
        ("failed", {"status_details": {"error": {"message": "no"}}}, "failed", "no"),
    ],
)
def test_how_a_realtime_response_ends(
    server: SocketServer, sink: Sink, status: str, more: Any, state: str, error: str | None
) -> None:
    _sync(server, sink, [created("r1"), done("r1", status, **more)])
    response = ended(sink, "c")
    assert (response.state, response.error) == (state, error)
    assert response.finish_reason == status


def test_an_error_about_something_else(server: SocketServer, sink: Sink) -> None:
    error = {"type": "error", "error": {"type": "invalid", "message": "no", "event_id": "e9"}}
    events = [created("r1"), error, {**text("r1", "Hello"), "response_id": "r1"}, done("r1")]
    _sync(server, sink, events)
    check_reply(sink)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_cancel_sends_the_apis_own_event(
    server: SocketServer, sink: Sink, is_async: bool
) -> None:
    first = [created("r1"), {**text("r1", "Hel"), "response_id": "r1"}]

    def cancel() -> None:
        assert sink.cancel("c", responses(sink, "c")[0].id)
        assert server.next_event()["type"] == "response.create"  # type: ignore[index]
        assert server.next_event() == {"type": "response.cancel", "response_id": "r1"}
        server.send({**text("r1", "late"), "response_id": "r1"}, done("r1", "cancelled"))

    async def main() -> list[str]:
        api = wrap(aclient(server), sink, channel="c").realtime
        async with api.connect(model="m") as connection:
            await connection.response.create()
            server.send(*first)
            seen = [await connection.recv() for _ in first]
            await asyncio.to_thread(cancel)
            seen += [await connection.recv() for _ in range(2)]
            return [event.type for event in seen]

    if is_async:
        seen = asyncio.run(main())
    else:
        with wrap(client(server), sink, channel="c").realtime.connect(model="m") as connection:
            connection.response.create()
            server.send(*first)
            collect(connection, 2)
            cancel()
            seen = [event.type for event in collect(connection, 2)]
    assert seen[-1] == "response.done"
    response = ended(sink, "c")
    assert (response.state, response.text) == ("cancelled", "Hel")


# -- whom it concerns


def test_another_client_is_not_published(server: SocketServer, sink: Sink) -> None:
    wrapped = wrap(client(server), sink, channel="c")
    with client(server).responses.connect() as connection:
        connection.response.create(**CREATE)
        server.send(*reply("r1", "Hello"))
        collect(connection, 3)
    assert not responses(sink, "c")
    unwrap(wrapped)
    with wrapped.responses.connect() as connection:
        connection.response.create(**CREATE)
        server.send(*reply("r1", "Hello"))
        collect(connection, 3)
    assert not responses(sink, "c")


@pytest.fixture
def installed(sink: Sink) -> Iterator[None]:
    undo = auto.install(sink, channel="c")
    yield
    undo()


@pytest.mark.usefixtures("installed")
def test_auto_sees_each_once(server: SocketServer, sink: Sink) -> None:
    with client(server).responses.connect() as connection:
        connection.response.create(**CREATE)
        server.send(*reply("r1", "Hello"))
        collect(connection, 3)
    check_reply(sink)
    assert len(responses(sink, "c")) == 1


@pytest.mark.usefixtures("installed")
def test_auto_sees_connections_without_the_sdk(server: SocketServer, sink: Sink) -> None:
    url = server.url.replace("http", "ws")
    with connect(f"{url}/responses") as socket, connect(f"{url}/other") as other:
        other.send(json.dumps({"type": "response.create", **CREATE}))
        server.next_event()
        socket.send(json.dumps({"type": "response.create", **CREATE}))
        server.next_event()
        assert len(responses(sink, "c")) == 1
