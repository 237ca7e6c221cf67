"""Watchers of one run in a UI protocol share what is encoded while their encoders agree."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenwire
from tests.adapters.gateway import support
from tests.adapters.gateway.support import PATIENCE, serving
from tests.adapters.gateway.test_slow_clients import unread, until
from tests.adapters.ui.logs import logs
from tests.adapters.ui.test_chat_routes import read
from tokenwire.events import DeltaEvent, Event, SnapshotEvent, StartEvent
from tokenwire.response import Transcript
from tokenwire_adapters._web.gateway.member import Member
from tokenwire_adapters.ag_ui import AgentRoutes, AgUiEncoder
from tokenwire_adapters.ui import ENVELOPE, ProtocolRoutes, RunEncoder
from tokenwire_adapters.vercel import ChatRoutes, VercelEncoder

ENCODERS: list[type[RunEncoder]] = [VercelEncoder, AgUiEncoder]


@pytest.fixture(autouse=True)
def handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "way", "handed over")


async def nothing(turn: Any) -> None:
    """The agent of routes that are only watched."""


ROUTES: dict[str, tuple[Callable[[tokenwire.Sink], ProtocolRoutes], str, bytes, bytes]] = {
    "useChat": (
        lambda sink: ChatRoutes(sink, nothing),
        "/api/chat/c/stream",
        b'"type":"start"',
        b"[DONE]",
    ),
    "AG-UI": (
        lambda sink: AgentRoutes(sink, nothing, path="/agent"),
        "/agent/c/stream",
        b"RUN_STARTED",
        b"RUN_FINISHED",
    ),
}


@pytest.fixture(params=ROUTES)
def served(
    request: pytest.FixtureRequest, sink: tokenwire.Sink
) -> Iterator[tuple[ProtocolRoutes, int, str, bytes, bytes]]:
    """Routes, their port and path, and what says that a run has begun there, and ended."""
    make, path, begin, end = ROUTES[request.param]
    routes = make(sink)
    with serving(routes) as server:
        yield routes, server.port, path, begin, end


def members(routes: ProtocolRoutes) -> list[Member]:
    return [one for one in routes.service.traffic.connections if isinstance(one, Member)]


def text_of(body: bytes) -> str:
    return "".join(part["text"] for part in read(body).parts if "text" in part)


def begin_run(sink: tokenwire.Sink) -> tokenwire.ResponseWriter:
    return sink.respond("c", response_id="r", run="r", metadata={ENVELOPE: {}})


async def test_watchers_who_joined_at_different_moments_share_a_group(
    sink: tokenwire.Sink, served: tuple[ProtocolRoutes, int, str, bytes, bytes]
) -> None:
    routes, port, path, begin, end = served
    response = begin_run(sink)
    response.write("one ")
    bodies: list[bytearray] = []

    async def watch(client: httpx.AsyncClient) -> None:
        body = bytearray()
        bodies.append(body)
        async with client.stream("GET", path) as stream:
            async for data in stream.aiter_bytes():
                body += data

    limits = httpx.Limits(max_connections=None)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as client:
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(watch(client))
                await until(lambda n=number: len(members(routes)) == n + 1)
                response.write(f"{number} ")
                await until(lambda n=number: all(f"{n} ".encode() in body for body in bodies))
            more = 0
            while len(routes.service.fanout) != 1:  # groups that agree merge as tokens come
                response.write("+ ")
                more += 1
                await sink.aflush()
                await asyncio.sleep(0.001)
            response.finish()
    for body in bodies:
        assert begin in body
        assert end in body[-300:]
        assert all(f"{number} ".encode() in body for number in range(6))
        assert end != b"[DONE]" or text_of(bytes(body)) == "one 0 1 2 3 4 5 " + "+ " * more
    await until(lambda: len(routes.service.traffic.connections) == 0)
    assert len(routes.service.fanout) == 0
    assert not routes.service.traffic.connections._clients._open
    await until(lambda: sink.stats().watchers == 0)


async def test_a_watcher_that_falls_behind_goes_on_with_an_encoder_of_its_own(
    sink: tokenwire.Sink, served: tuple[ProtocolRoutes, int, str, bytes, bytes]
) -> None:
    routes, port, path, _, end = served
    response = begin_run(sink)
    response.write("one ")
    request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(unread(port, request))
        await until(lambda: len(members(routes)) == 1)
        (behind,) = members(routes)
        quick = await stack.enter_async_context(unread(port, request))
        await until(lambda: len(members(routes)) == 2)
        assert len(routes.service.fanout) == 1
        (other,) = set(members(routes)) - {behind}
        reading = loop.create_task(read_until(quick, end))
        written = "one "
        while behind.sending_since is None:
            response.write("x" * 50_000)
            written += "x" * 50_000
            await asyncio.sleep(0.001)
        await until(lambda: behind._group is None)
        assert behind.framer is not other.framer
        for _ in range(3):
            response.write("Q")
        response.finish()
        for body in (await reading, await read_until(slow, end)):
            assert body.count(b"x") - body.count(b"text") >= len(written) - 4
            assert body.count(b"Q") == 3  # in however many pieces
    await until(lambda: len(routes.service.traffic.connections) == 0)


async def read_until(client: Any, end: bytes) -> bytes:
    body = bytearray()
    async with asyncio.timeout(PATIENCE):
        while end not in body[-(2**16) :]:
            data = await asyncio.get_running_loop().sock_recv(client, 2**16)
            assert data, "the server closed"
            body += data
    return bytes(body)


def frames(encoder: RunEncoder, events: list[Event]) -> list[Any]:
    return [*(frame for event in events for frame in encoder.encode(event)), *encoder.end()]


@pytest.mark.parametrize("make", ENCODERS)
@given(log=logs(), data=st.data())
def test_encoders_that_agree_encode_the_same(make: type[RunEncoder], log: Any, data: Any) -> None:
    joined = data.draw(st.integers(0, len(log.events)), label="joined at")
    met = data.draw(st.integers(joined, len(log.events)), label="met at")
    early = make(run=log.run, enveloped=log.enveloped)
    late = make(run=log.run, enveloped=log.enveloped)
    list(early.begin())
    for event in log.events[:met]:
        list(early.encode(event))
    late.prime(log.snapshots(joined))
    list(late.begin())
    for event in log.events[joined:met]:
        list(late.encode(event))
    rest = log.events[met:]
    if early.same_as(late):
        assert frames(early, rest) == frames(late, rest)


@pytest.mark.parametrize("make", ENCODERS)
@given(log=logs(), data=st.data())
def test_a_fork_goes_on_alone(make: type[RunEncoder], log: Any, data: Any) -> None:
    at = data.draw(st.integers(0, len(log.events)), label="forked at")
    encoder = make(run=log.run, enveloped=log.enveloped)
    list(encoder.begin())
    for event in log.events[:at]:
        list(encoder.encode(event))
    fork = encoder.fork()
    assert encoder.same_as(fork)
    before = copy.deepcopy(fork._compared())
    expected = frames(encoder, log.events[at:])
    assert fork._compared() == before
    assert frames(fork, log.events[at:]) == expected


@pytest.mark.parametrize("make", ENCODERS)
def test_encoders_agree_once_they_have_the_same(make: type[RunEncoder]) -> None:
    start = StartEvent(response_id="r", run="r", channel="c", metadata={ENVELOPE: {}})
    delta = DeltaEvent(response_id="r", part=0, kind="text", offset=0, text="ab")
    one, two = make(run="r", enveloped=True), make(run="r", enveloped=True)
    one.on_error = two.on_error = str
    for event in (start, delta):
        list(one.encode(event))
    assert not one.same_as(two)
    response = Transcript([start, delta])["r"]
    two.prime([SnapshotEvent(response=response)])
    list(two.begin())
    assert one.same_as(two)
    two.on_error = repr
    assert not one.same_as(two)
