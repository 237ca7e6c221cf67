"""The ways a stream can end, as a table for every SDK, sync and async."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

import tokenwire
from tests.support.replay import Gate, Replay, Reply
from tests.support.sdk import ended, responses
from tokenwire import Sink, State, background
from tokenwire._instrument import recorder as _recorder


@dataclass(frozen=True)
class Talk:
    """One SDK's API, as these tests need it.

    :ivar good: a body with text that ends well; `first` events bring its first text.
    :ivar bad: a body in which the provider reports an error.
    """

    good: bytes
    text: str
    bad: bytes
    first: int
    client: Callable[..., Any]
    aclient: Callable[..., Any]
    create: Callable[[Any], Any]
    wrap: Callable[..., Any]


class Oops(Exception):
    """What a consumer raises."""


# -- sync: each gets a function that begins the stream, and reads some of it


def exhausted(begin: Callable[[], Any]) -> None:
    assert list(begin())


def broken_off(begin: Callable[[], Any]) -> None:
    for _ in begin():
        break


_held: list[Any] = []


def broken_off_and_held(begin: Callable[[], Any]) -> None:
    stream = begin()
    _held.append(stream)
    for _ in stream:
        break


def closed(begin: Callable[[], Any]) -> None:
    stream = begin()
    next(stream)
    stream.close()
    _held.append(stream)


def left_with(begin: Callable[[], Any]) -> None:
    with begin() as stream:
        next(stream)
    _held.append(stream)


def raised_in_with(begin: Callable[[], Any]) -> None:
    with contextlib.suppress(Oops), begin() as stream:
        _held.append(stream)
        for _ in stream:
            raise Oops


def raised(begin: Callable[[], Any]) -> None:
    with contextlib.suppress(Oops):
        for _ in begin():
            raise Oops


def dropped(begin: Callable[[], Any]) -> None:
    next(begin())


def collected(begin: Callable[[], Any]) -> None:
    stream = begin()
    stream.itself = stream  # a cycle, which only the collector finds
    next(stream)
    del stream
    gc.collect()


def never_read(begin: Callable[[], Any]) -> None:
    begin()


SYNC: list[tuple[Callable[..., Any], State]] = [
    (exhausted, "complete"),
    (broken_off, "cancelled"),
    (broken_off_and_held, "cancelled"),
    (closed, "cancelled"),
    (left_with, "cancelled"),
    (raised_in_with, "cancelled"),
    (raised, "cancelled"),
    (dropped, "cancelled"),
    (collected, "cancelled"),
    (never_read, "cancelled"),
]


def check_sync(talk: Talk, way: Callable[..., Any], state: State, sink: Sink) -> None:
    """End a stream in a sync way; hold its response against the state that is due."""
    gate = Gate(talk.first)
    if state == "complete":
        gate.open()
    with Replay(Reply(talk.good, gate=gate)) as replay, talk.client(replay) as on:
        talk.wrap(on, sink, channel="c")
        way(lambda: talk.create(on))
        response = ended(sink, "c")
        assert response.state == state
        assert talk.text.startswith(response.text)
        if state == "complete":
            assert response.text == talk.text
        elif way not in (broken_off_and_held, never_read):  # there the SDK keeps the connection
            replay.wait_closed_early()
        _held.clear()
        gc.collect()
    assert sink.stats().open == 0


def check_failures(talk: Talk, reply: Reply, message: str | None, sink: Sink) -> None:
    """Have the provider, or the connection, fail; sync."""
    with Replay(reply) as replay, talk.client(replay) as on:
        talk.wrap(on, sink, channel="c")
        bare = talk.client(replay)
        with pytest.raises(Exception) as without:
            list(talk.create(bare))
        bare.close()
        with pytest.raises(Exception) as with_:
            list(talk.create(on))
    assert type(with_.value) is type(without.value)
    assert str(with_.value) == str(without.value)
    response = ended(sink, "c")
    assert response.state == "failed"
    assert response.error
    if message is not None:
        assert response.error == message


# -- async


async def aexhausted(begin: Callable[[], Awaitable[Any]]) -> None:
    assert [item async for item in await begin()]


async def abroken_off(begin: Callable[[], Awaitable[Any]]) -> None:
    async for _ in await begin():
        break


async def abroken_off_and_held(begin: Callable[[], Awaitable[Any]]) -> None:
    stream = await begin()
    _held.append(stream)
    async for _ in stream:
        break


async def aclosed(begin: Callable[[], Awaitable[Any]]) -> None:
    stream = await begin()
    await anext(stream)
    await stream.close()
    _held.append(stream)


async def aleft_with(begin: Callable[[], Awaitable[Any]]) -> None:
    async with await begin() as stream:
        await anext(stream)
    _held.append(stream)


async def araised_in_with(begin: Callable[[], Awaitable[Any]]) -> None:
    with contextlib.suppress(Oops):
        async with await begin() as stream:
            _held.append(stream)
            async for _ in stream:
                raise Oops


async def araised(begin: Callable[[], Awaitable[Any]]) -> None:
    with contextlib.suppress(Oops):
        async for _ in await begin():
            raise Oops


async def adropped(begin: Callable[[], Awaitable[Any]]) -> None:
    await anext(await begin())


async def acancelled(begin: Callable[[], Awaitable[Any]]) -> None:
    read = asyncio.Event()

    async def consume() -> None:
        async for _ in await begin():
            read.set()

    task = asyncio.create_task(consume())
    await read.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def atimed_out(begin: Callable[[], Awaitable[Any]]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            async for _ in await begin():
                if timeout.when() is None:  # before, the request may not have been sent
                    timeout.reschedule(asyncio.get_running_loop().time() + 0.1)


ASYNC: list[tuple[Callable[..., Any], State]] = [
    (aexhausted, "complete"),
    (abroken_off, "cancelled"),
    (abroken_off_and_held, "cancelled"),
    (aclosed, "cancelled"),
    (aleft_with, "cancelled"),
    (araised_in_with, "cancelled"),
    (araised, "cancelled"),
    (adropped, "cancelled"),
    (acancelled, "cancelled"),
    (atimed_out, "cancelled"),
]


async def check_async(talk: Talk, way: Callable[..., Any], state: State, sink: Sink) -> None:
    """End a stream in an async way; hold its response against the state that is due."""
    gate = Gate(talk.first)
    if state == "complete":
        gate.open()
    async with Replay(Reply(talk.good, gate=gate)) as replay, talk.aclient(replay) as on:
        talk.wrap(on, sink, channel="c")
        await way(lambda: talk.create(on))
        response = await asyncio.to_thread(ended, sink, "c")
        assert response.state == state
        assert talk.text.startswith(response.text)
        if state == "complete":
            assert response.text == talk.text
        elif way is not abroken_off_and_held:
            await replay.wait_closed_early_async()
        _held.clear()
        gc.collect()
    assert sink.stats().open == 0


def check_exit(program: str, replay: Replay) -> tokenwire.Response:
    """Run a program that exits in the middle of a stream; return how its response ended."""
    reported = textwrap.dedent(
        """
        import atexit, os, sys

        def tell():  # runs after tokenwire's own exit, having been registered before it
            # Without a sink: from Python 3.12 on no thread can be started any more.
            import asyncio, msgspec, tokenwire
            backend = tokenwire.MemoryBackend.from_url("memory://exit")
            (response,) = asyncio.run(backend.history("c", limit=9)).items
            sys.stdout.buffer.write(msgspec.json.encode(response))
            sys.stdout.flush()
            # What follows is the interpreter's own, and Python 3.13.0 crashes in it when the
            # stream of an SDK, with or without us, is still open.
            os._exit(0)

        atexit.register(tell)
        import tokenwire
        sink = tokenwire.open_sink("memory://exit", strict=True)
        """
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            reported + textwrap.dedent(program),
            replay.base_url,
            replay.root_url,
        ],
        capture_output=True,
        check=False,
        timeout=270,
    )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=tokenwire.Response)


# -- a watcher cancels


def _with_text(sink: Sink) -> str:
    """Wait until the consumer has read some text; return the response's id."""
    with sink.watch("c", rewind="all") as watch:
        for event in watch:
            if isinstance(event, tokenwire.DeltaEvent):
                break
            if isinstance(event, tokenwire.SnapshotEvent) and event.response.text:
                break
    (response,) = responses(sink, "c")
    return response.id


def check_cancel_blocked(talk: Talk, sink: Sink, **options: Any) -> list[Any]:
    """Cancel while the consumer waits for the next chunk, which never comes."""
    gate = Gate(talk.first)
    outcomes: list[Any] = []

    def cancel() -> None:
        replay.wait_sent(talk.first)
        outcomes.append(sink.cancel("c", _with_text(sink), reason="enough"))

    read: list[Any] = []
    with Replay(Reply(talk.good, gate=gate)) as replay, talk.client(replay) as on:
        talk.wrap(on, sink, channel="c", **options)
        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            read.extend(talk.create(on))
        finally:
            canceller.join()
            replay.wait_closed_early()
            assert outcomes[0].state == "cancelled"
            response = ended(sink, "c")
            assert response.state == "cancelled"
            assert talk.text.startswith(response.text)
    return read


async def acheck_cancel_blocked(talk: Talk, sink: Sink, **options: Any) -> None:
    """Do what `check_cancel_blocked` does, in a coroutine."""
    gate = Gate(talk.first)

    async def cancel() -> Any:
        await replay.wait_async(
            lambda: bool(replay.exchanges) and replay.exchanges[-1].events_sent >= talk.first
        )
        return await sink.acancel("c", await asyncio.to_thread(_with_text, sink))

    async with Replay(Reply(talk.good, gate=gate)) as replay, talk.aclient(replay) as on:
        talk.wrap(on, sink, channel="c", **options)
        cancelling = asyncio.create_task(cancel())
        try:
            async for _ in await talk.create(on):
                pass
        finally:
            assert (await cancelling).state == "cancelled"
            await replay.wait_closed_early_async()
            assert responses(sink, "c")[0].state == "cancelled"


def check_cancel_between(talk: Talk, sink: Sink) -> None:
    """Cancel while the consumer works on a chunk: it is the last it gets."""
    with Replay(talk.good) as replay, talk.client(replay) as on:
        talk.wrap(on, sink, channel="c")
        read = 0
        for _ in talk.create(on):
            read += 1
            if read == talk.first:
                (response,) = responses(sink, "c")
                assert sink.cancel("c", response.id).state == "cancelled"
                background.run(sink, asyncio.sleep(0))  # let the I/O thread tell the tap
        assert read == talk.first


def check_cancel_before_first(talk: Talk, sink: Sink) -> None:
    """Cancel before the provider has said anything."""

    def cancel() -> None:
        replay.wait(lambda: bool(replay.exchanges))
        (response,) = responses(sink, "c")
        assert sink.cancel("c", response.id).state == "cancelled"

    with Replay(Reply(talk.good, gate=Gate())) as replay, talk.client(replay) as on:
        talk.wrap(on, sink, channel="c")
        canceller = threading.Thread(target=cancel)
        canceller.start()
        assert list(talk.create(on)) == []
        canceller.join()
        replay.wait_closed_early()


def quick_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait seconds for what ends by itself."""
    monkeypatch.setattr(_recorder, "_SETTLE", 0.05)
