"""Event streams."""

from __future__ import annotations

import asyncio
import json

import anyio
import httpx
import pytest
from httpx_sse import aconnect_sse

import tokenwire
from tests.adapters.gateway.support import PATIENCE, Server, chatting, native, serving, watching
from tokenwire.events import SnapshotEvent, encode_json
from tokenwire.response import Transcript
from tokenwire_adapters.asgi import Gateway, Limits

CHANNEL = "/channels/c"


async def test_what_is_written_arrives_live_and_exact(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    async with watching(client, f"{CHANNEL}/events") as stream:
        assert (await stream.next()).event == "ready"
        with sink.respond("c", response_id="r1") as response:
            for piece in (" Hel", "lo\n", "  \r\n", "data: x\n\n", "é😀\u2028", ""):
                response.write(piece)
        events = await stream.until("end")
    assert Transcript(native(events))["r1"].text == " Hello\n  \r\ndata: x\n\né😀\u2028"
    assert all(event.id == json.loads(event.data)["cursor"] for event in events)


@pytest.mark.parametrize("format", ["native", "vercel", "ag-ui"])
async def test_no_client_gets_a_message_without_data(
    client: httpx.AsyncClient, sink: tokenwire.Sink, format: str
) -> None:
    """For a block of a ``retry`` alone, httpx-sse and fetch-event-source give out an empty one."""
    with sink.respond("c", response_id="r1") as response:
        response.write("text")
    query = {"format": format, "response": "r1", "rewind": "all"}
    async with aconnect_sse(client, "GET", f"{CHANNEL}/events", params=query) as source:
        events = [event async for event in source.aiter_sse()]
    assert events
    assert all(event.data for event in events)
    assert [event.retry for event in events] == [2000, *[None] * (len(events) - 1)]


async def test_headers_keep_proxies_from_buffering_and_compressing(
    client: httpx.AsyncClient, way: str
) -> None:
    async with watching(client, f"{CHANNEL}/events") as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert {"no-cache", "no-store", "no-transform"} <= set(headers["cache-control"].split(", "))
        assert headers["x-accel-buffering"] == "no"
        assert headers.get("connection") == ("close" if way == "handed over" else None)
        assert "content-encoding" not in headers


async def test_a_late_watcher_gets_a_snapshot_then_what_comes(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    with sink.respond("c", response_id="r1") as response:
        response.write("before ")
        async with watching(client, f"{CHANNEL}/events") as stream:
            snapshot, _ready = await stream.until("ready")
            assert json.loads(snapshot.data)["type"] == "snapshot"
            response.write("after")
            response.finish()
            rest = await stream.until("end")
    assert Transcript(native([snapshot, *rest]))["r1"].text == "before after"


@pytest.mark.parametrize("ring", [8, 2048])
async def test_a_reader_gets_on_that_is_cut_off_after_each_event(
    sink: tokenwire.Sink, ring: int
) -> None:
    """Each message of a replay has an id to go on from: a line that breaks all the time will do.

    First come snapshots, then single events, which the ring has, or only the store.
    """
    for n in range(3):
        with sink.respond("c", response_id=f"r{n}") as response:
            response.write(f"text {n}")
    transcript, last, ticks, reads = Transcript(), "", [], 0
    with (
        tokenwire.Sink(sink.backend, ring_events=ring) as reading,
        serving(Gateway(reading, limits=Limits(request_burst=1000))) as server,
    ):
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            while len(transcript) < 3 or len(ticks) < 40:
                headers = {"last-event-id": last} if last else {}
                path = f"{CHANNEL}/events?rewind=all"
                async with watching(client, path, headers=headers) as stream:
                    while (message := await stream.next()).event == "ready":
                        pass
                reads += 1
                assert reads < 60, "it is given the same again and again"
                last = message.id
                (event,) = native([message])
                assert event.cursor == last
                transcript.apply(event)
                if event.type == "data":
                    ticks.append(event.data)
                if reads == 3:
                    for n in range(40):
                        sink.send_event("c", "tick", n)
                    assert await sink.aflush(PATIENCE)
    assert ticks == list(range(40))
    assert {response.text for response in transcript} == {"text 0", "text 1", "text 2"}


@pytest.mark.parametrize("by", ["header", "query", "both"])
async def test_resume_goes_on_right_after_the_cursor(
    client: httpx.AsyncClient, sink: tokenwire.Sink, by: str
) -> None:
    with sink.respond("c", response_id="r1") as response:
        response.write("one ")
        async with watching(client, f"{CHANNEL}/events?rewind=all") as stream:
            seen = await stream.until("ready")
        response.write("two ")
        response.write("three")
        response.finish()
    headers = {} if by == "query" else {"last-event-id": seen[-1].id}
    query = {"header": "", "query": f"?after={seen[-1].id}", "both": "?after=0&rewind=all"}[by]
    async with watching(client, f"{CHANNEL}/events{query}", headers=headers) as stream:
        seen += await stream.until("end")
    assert [event.type for event in native(seen)].count("snapshot") == 1
    assert Transcript(native(seen))["r1"].text == "one two three"


@pytest.mark.parametrize("rewind", ["2", "10m", "all"])
async def test_rewind(client: httpx.AsyncClient, sink: tokenwire.Sink, rewind: str) -> None:
    for n in range(3):
        with sink.respond("c", response_id=f"r{n}") as response:
            response.write(str(n))
    async with watching(client, f"{CHANNEL}/events?rewind={rewind}") as stream:
        seen = native((await stream.until("ready"))[:-1])
    expected = ["r1", "r2"] if rewind == "2" else ["r0", "r1", "r2"]
    assert [event.response_id for event in seen] == expected


async def test_a_stream_of_one_response_ends_with_it_and_is_not_begun_again(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    other = sink.respond("c", response_id="other")
    response = sink.respond("c", response_id="r1")
    async with watching(client, f"{CHANNEL}/events?response=r1") as stream:
        await stream.until("ready")
        other.write("nothing of this")
        response.write("text")
        response.finish()
        events = await stream.rest()
    other.finish()
    assert {event.response_id for event in native(events)} == {"r1"}
    path = f"{CHANNEL}/events?response=r1"
    again = await client.get(path, headers={"last-event-id": events[-1].id})
    assert (again.status_code, again.content) == (204, b"")
    # From an earlier cursor there is something to tell.
    async with watching(client, path, headers={"last-event-id": events[0].id}) as stream:
        assert native(await stream.rest())[-1].type == "end"
    # And from the beginning, all of it.
    async with watching(client, path) as stream:
        events = await stream.rest()
    assert Transcript(native(events))["r1"].text == "text"
    assert (await client.get(path, headers={"last-event-id": events[-1].id})).status_code == 204


async def test_who_stopped_midway_in_a_response_that_has_ended_is_given_the_rest(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    path = f"{CHANNEL}/events?response=r1"
    response = sink.respond("c", response_id="r1")
    async with watching(client, path) as stream:
        response.write("text")
        begun = await stream.next()
    response.finish()
    headers = {"last-event-id": f"~{(begun.id or '').removeprefix('~')}"}
    async with watching(client, path, headers=headers) as stream:
        (rest,) = native(await stream.rest())
    assert isinstance(rest, SnapshotEvent)
    assert (rest.response.text, rest.response.state) == ("text", "complete")


async def test_a_stream_may_be_asked_for_before_its_response_begins(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    async with watching(client, f"{CHANNEL}/events?response=r1") as stream:
        await stream.until("ready")
        with sink.respond("c", response_id="r1") as response:
            response.write("text")
        assert Transcript(native(await stream.rest()))["r1"].text == "text"


async def test_who_does_not_want_to_wait_is_told_that_nothing_streams(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    assert (await client.get(f"{CHANNEL}/events?wait=0")).status_code == 204
    with sink.respond("c") as response:
        response.write("text")
        async with watching(client, f"{CHANNEL}/events?wait=0") as stream:
            assert (await stream.next()).event == "message"
        response.finish()
    assert (await client.get(f"{CHANNEL}/events?wait=0")).status_code == 204


async def test_names_are_decoded_exactly_once(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    for name, path in {
        "a/b": "a%2Fb",
        "a%2Fb": "a%252Fb",
        "a b+c": "a%20b+c",
        "é?#&": "%C3%A9%3F%23%26",
        "..": "%2E%2E",
    }.items():
        with sink.respond(name, response_id=f"of {name}") as response:
            response.write("x")
        # httpx would normalise a path; this is the URL as a client may write it.
        url = httpx.URL(str(client.base_url)).copy_with(
            raw_path=f"/channels/{path}/responses".encode()
        )
        page = (await client.get(url)).json()
        assert [item["id"] for item in page["items"]] == [f"of {name}"], name


@pytest.mark.parametrize(
    ("query", "headers", "code"),
    [
        ("after=nonsense", {}, "bad_cursor"),
        ("after=00000000-1&rewind=1", {"last-event-id": "\xff"}, "bad_cursor"),
        ("after=" + "x" * 600, {}, "bad_request"),
        ("rewind=yesterday", {}, "bad_request"),
        ("rewind=-1", {}, "bad_request"),
        ("format=nonsense", {}, "bad_format"),
        ("wait=2", {}, "bad_request"),
        ("response=" + "x" * 300, {}, "bad_name"),
        ("response=%00", {}, "bad_name"),
        ("rewind=1&rewind=2", {}, "bad_request"),
        ("rewind=%ff", {}, "bad_request"),
    ],
)
async def test_wrong_parameters_are_refused_clearly(
    client: httpx.AsyncClient, query: str, headers: dict[str, str], code: str
) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await client.get(f"{CHANNEL}/events?{query}", headers=encoded)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"], problem["type"]) == (400, code, "about:blank")
    assert problem["detail"]


async def test_a_cursor_ahead_of_its_channel_is_refused(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    with sink.respond("c") as response:
        response.write("x")
    async with watching(client, f"{CHANNEL}/events") as stream:
        cursor = (await stream.next()).id
    epoch = cursor.partition("-")[0]
    answer = await client.get(f"{CHANNEL}/events?after={epoch}-999999")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


async def test_a_quiet_stream_is_kept_alive(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, limits=Limits(keep_alive=0.1))
    with serving(gateway) as server:
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client,
            client.stream("GET", f"{CHANNEL}/events", timeout=PATIENCE) as response,
        ):
            comments = 0
            async for line in response.aiter_lines():
                comments += line == ": keep-alive"
                if comments == 3:
                    break


async def test_no_block_is_without_data(sink: tokenwire.Sink) -> None:
    """fetch-event-source 2.0.1 and httpx-sse 0.4.3 give out an empty message for such a block."""
    gateway = Gateway(sink, limits=Limits(keep_alive=0.05))
    with serving(gateway) as server:
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client,
            client.stream("GET", f"{CHANNEL}/events", timeout=PATIENCE) as response,
        ):
            body = ""
            async for text in response.aiter_text():
                body += text
                if body.count(": keep-alive") == 2 and "first" not in body:
                    await sink.ainput("c", "message", "first")
                if "first" in body and body.count(": keep-alive") >= 4:
                    break
    *blocks, _ = body.split("\n\n")
    assert len(blocks) == 2  # ready, and the message
    assert all("\ndata: " in f"\n{block}" for block in blocks)


async def test_a_cursor_that_is_no_longer_there_resets(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    with tokenwire.open_sink(tokenwire.MemoryBackend()) as other:
        cursor = await other.ainput("c", "message", "of another log")
    async with watching(client, f"/channels/empty/events?after={cursor}") as stream:
        (empty,) = await stream.until("ready")
    with sink.respond("c", response_id="new") as response:
        response.write("new")
    async with watching(client, f"{CHANNEL}/events?after={cursor}") as stream:
        snapshot, ready = await stream.until("ready")
    async with watching(client, f"{CHANNEL}/events?after={ready.id}") as stream:
        (going_on,) = await stream.until("ready")
    assert native([snapshot])[0].response.id == "new"
    resets = [json.loads(event.data).get("reset") for event in (empty, ready, going_on)]
    assert resets == [True, True, None]


async def test_a_herd_that_joins_has_what_it_is_given_encoded_once(
    client: httpx.AsyncClient,
    server: Server,
    sink: tokenwire.Sink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tokenwire._reading.joining._REPLAY_FRESH", 600.0)
    for n in range(5):
        with sink.respond("c", response_id=f"r{n}") as response:
            response.write(f"text {n}")
    encoded: list[str] = []

    def counting(event: tokenwire.Event) -> bytes:
        encoded.append(str(event.cursor))
        return encode_json(event)

    monkeypatch.setattr("tokenwire.encoding.encode_json", counting)
    monkeypatch.setattr("tokenwire_adapters._web.gateway.framing.encode_json", counting)

    async def stream() -> None:
        async with watching(client, f"{CHANNEL}/events?rewind=all") as stream:
            assert len(native(await stream.until("ready"))) == 5

    async def chat() -> None:
        async with chatting(server.ws_url) as chat:
            await chat.ask("subscribe", rewind="all")
            while "c" not in chat.cursors:
                await chat.receive()
            assert len(chat.transcript) == 5

    async with asyncio.TaskGroup() as tasks:
        for _ in range(15):
            tasks.create_task(stream())
            tasks.create_task(chat())
    assert len(set(encoded)) == 5
    assert len(encoded) == 2 * 5  # once for streams, once for sockets


async def test_shutdown_tells_streams_to_come_back(
    client: httpx.AsyncClient, server: Server, gateway: Gateway
) -> None:
    async with watching(client, f"{CHANNEL}/events") as stream:
        await stream.next()
        assert gateway.connections == 1
        assert await gateway.shutdown(PATIENCE)
        last = (await stream.rest())[-1]
    assert last.event == "bye"
    assert 0 < json.loads(last.data)["retry"] == last.retry
    refused = await client.get(f"{CHANNEL}/events")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/healthz")).status_code == 200


async def test_streams_end_when_their_sink_is_closed(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    async with watching(client, f"{CHANNEL}/events") as stream:
        await stream.next()
        await sink.aclose()
        assert (await stream.rest())[-1].event == "bye"
    assert (await client.get(f"{CHANNEL}/events")).status_code == 503


async def test_a_client_that_leaves_is_let_go(
    client: httpx.AsyncClient, gateway: Gateway, sink: tokenwire.Sink
) -> None:
    async with watching(client, f"{CHANNEL}/events") as stream:
        await stream.next()
        assert sink.stats().watchers == 1
    with anyio.fail_after(PATIENCE):
        while gateway.connections or sink.stats().watchers:
            await anyio.sleep(0.01)


async def test_a_slow_client_is_conflated_and_ends_up_exact(sink: tokenwire.Sink) -> None:
    """A client that does not read holds up nobody, costs little, and loses nothing."""
    text = "0123456789" * 100
    with (
        tokenwire.Sink(sink.backend, ring_events=16, ring_bytes=65536) as small,
        serving(Gateway(small)) as server,
    ):
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with watching(client, f"{CHANNEL}/events") as stream:
                await stream.next()
                with sink.respond("c", response_id="r1") as response:
                    for _ in range(4000):  # 4 MB, more than the buffers of two sockets hold
                        response.part("text", text=text)  # published at once
                        await asyncio.sleep(0)
                transcript = Transcript()
                await stream.fold(transcript, "r1")
        assert small.stats().reading.conflations > 0
    assert transcript["r1"].text == text * 4000


async def test_a_client_that_never_reads_is_dropped(sink: tokenwire.Sink) -> None:
    gateway = Gateway(sink, limits=Limits(send_timeout=0.5))
    with serving(gateway) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            async with client.stream("GET", f"{CHANNEL}/events", timeout=PATIENCE):
                with anyio.fail_after(PATIENCE), sink.respond("c") as response:
                    while gateway.connections:
                        response.write("x" * 20_000)
                        await anyio.sleep(0.001)
                    response.finish()


@pytest.mark.parametrize("keyword", ["response_id", "response"])
async def test_a_handler_of_ones_own_can_answer_with_a_stream(
    sink: tokenwire.Sink, keyword: str
) -> None:
    from fastapi import FastAPI
    from starlette.responses import Response

    gateway = Gateway(sink, authorize=lambda *_: False)
    app = FastAPI()

    @app.post("/reply")
    async def reply() -> Response:
        response = sink.respond("c", response_id="r1")
        stream = gateway.events("c", **{keyword: "r1"})  # type: ignore[arg-type]
        response.write("text")
        response.finish()
        return stream

    with serving(app) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            answer = await client.post("/reply", timeout=PATIENCE)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert '"text":"text"' in answer.text
    with pytest.raises(ValueError, match="format"):
        gateway.events("c", format="nonsense")


async def test_a_gateway_opens_and_closes_the_sink_of_a_url() -> None:
    async with Gateway("memory://test-of-the-gateway") as gateway:
        assert not gateway.sink.closed
    assert gateway.sink.closed


async def test_events_gather_for_a_watcher_as_long_as_the_limit_says_or_not_at_all(
    sink: tokenwire.Sink,
) -> None:
    gateway = Gateway(sink, limits=Limits(gather=0.02))
    with serving(gateway) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            for query, seconds in (("", 0.02), ("?gather=1", 0.02), ("?gather=0", 0.0)):
                async with watching(client, f"/channels/c/events{query}") as stream:
                    await stream.until("ready")
                    (connection,) = gateway._service.traffic.connections
                    assert connection._reader.gather == seconds  # type: ignore[attr-defined]
                with anyio.fail_after(PATIENCE):
                    while gateway.connections:
                        await anyio.sleep(0.005)
            refused = await client.get("/channels/c/events?gather=2")
            assert (refused.status_code, refused.json()["code"]) == (400, "bad_request")
    with pytest.raises(ValueError, match="gather"):
        Limits(gather=2)
    assert Limits(gather=0).gather == 0
