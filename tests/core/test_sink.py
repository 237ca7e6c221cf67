"""The sink around the agent: harms nothing, survives forks and exits, says what is wrong."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

import tokenwire
from tokenwire import (
    BackendUnavailable,
    CancelEvent,
    Fenced,
    InvalidCursor,
    InvalidName,
    MemoryBackend,
    ResponseClosed,
    Sink,
    SinkClosed,
    UnknownScheme,
    background,
    open_sink,
)
from tokenwire.backend import Entry, Outcome, Receiver, Subscription
from tokenwire.errors import MissingExtra
from tokenwire.memory import MemoryStore
from tokenwire.registry import backend_schemes, open_backend
from tokenwire.testing import FaultyBackend, Publish

_PATIENCE = 30.0


@pytest.fixture
def sink() -> Sink:
    return Sink(MemoryBackend())


class Hanging(FaultyBackend):
    """A backend that never answers."""

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        await asyncio.Event().wait()
        raise AssertionError


class Raising(FaultyBackend):
    """A backend with a bug."""

    async def publish(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        raise ZeroDivisionError("a bug in the backend")


@pytest.mark.parametrize("kind", [Hanging, Raising])
def test_a_broken_backend_never_reaches_the_agent(kind: type[FaultyBackend]) -> None:
    sink = Sink(kind(MemoryBackend()), close_timeout=0.05)
    with sink.respond("c") as response:
        for number in range(1000):
            assert response.write(f"token {number}")
        response.tool_call("tool", "call", "{}")
    assert response.receipt.status == "pending"
    assert not sink.close()


def test_memory_held_for_a_backend_that_is_down_is_that_of_the_text() -> None:
    backend = FaultyBackend(MemoryBackend())
    sink = Sink(backend, close_timeout=0.05)
    response = sink.respond("c")
    assert sink.flush(_PATIENCE)
    backend.kill()
    for _ in range(200_000):
        response.write("word ")
    held = response._pending.draft
    deadline = threading.Event()
    while response._pending.writes:  # pyright: ignore[reportPrivateUsage]
        deadline.wait(0.05)
    pieces = sum(
        len(item[1]._pieces)  # pyright: ignore[reportPrivateUsage]
        for item in held._waiting  # pyright: ignore[reportPrivateUsage]
        if isinstance(item, tuple)
    )
    assert pieces <= 65536
    backend.revive()
    response.finish()
    assert response.wait(_PATIENCE).status == "delivered"
    assert len(sink.history("c").items[0].text) == 1_000_000
    sink.close()


def test_bad_arguments_go_nowhere_and_are_told(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    with sink.respond("bad\nname") as response:
        assert response.write("x")
    assert response.wait(_PATIENCE).status == "pending" or response.receipt
    with sink.respond("c", response_id="x" * 300) as response:
        response.write("x")
    with sink.respond("c") as response:
        assert not response.write(None)  # type: ignore[arg-type]
        assert not response.write(7)  # type: ignore[arg-type]
        assert response.write("fine")
    messages = " ".join(record.message for record in caplog.records)
    assert "channel must not have control" in messages
    assert "response id must have 1 to 256" in messages
    assert "text must be a str, not NoneType" in messages
    (kept,) = sink.history("c").items
    assert kept.text == "fine"
    sink.close()


def test_strict_mode_raises() -> None:
    sink = open_sink(MemoryBackend(), strict=True)
    with pytest.raises(InvalidName):
        sink.respond("")
    with sink.respond("c", response_id="r") as response:
        with pytest.raises(TypeError, match="text must be a str"):
            response.write(b"bytes")  # type: ignore[arg-type]
        with pytest.raises(Fenced, match="is being written"):
            sink.respond("c", response_id="r")
        response.finish()
        with pytest.raises(ResponseClosed, match="has ended"):
            response.write("late")
    sink.close()
    with pytest.raises(SinkClosed):
        sink.respond("c")
    with pytest.raises(SinkClosed):
        sink.watch("c")


def test_strict_mode_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWIRE_STRICT", "1")
    with open_sink(MemoryBackend()) as sink:
        assert sink.strict


def test_arguments_of_readers_are_checked(sink: Sink) -> None:
    with pytest.raises(InvalidName):
        sink.watch("a\x00b")
    with pytest.raises(InvalidCursor):
        sink.watch("c", after="-1")
    with pytest.raises(ValueError, match="not both"):
        sink.watch("c", after="x", rewind=1)
    for wrong in ("2 minutes", "", "-1", "1w", "9" * 40, -1, True, "1e3s", "٣"):
        with pytest.raises(ValueError, match="rewind"):
            sink.watch("c", rewind=wrong)
    for limit in (0, 1001, -5):
        with pytest.raises(ValueError, match="limit"):
            sink.history("c", limit=limit)
    with pytest.raises(InvalidName):
        sink.input("c", "bad\nname")
    sink.close()


def test_rollup_and_lease_are_bounded() -> None:
    for rollup in (-1, 0.501):
        with pytest.raises(ValueError, match="rollup"):
            open_sink(MemoryBackend(), rollup=rollup)
    with pytest.raises(ValueError, match=r"rollup is in seconds.*in milliseconds: now 0\.1"):
        open_sink(MemoryBackend(), rollup=100)
    for lease in (0, -1, 10**6):
        with pytest.raises(ValueError, match="lease"):
            open_sink(MemoryBackend(), lease=lease)
    with pytest.raises(ValueError, match="granularity"):
        open_sink("memory://x", granularity="word")  # type: ignore[arg-type]


def test_rollup_merges_and_the_first_token_does_not_wait() -> None:
    backend = FaultyBackend(MemoryBackend())
    sink = Sink(backend, rollup=0.5)
    watch = sink.watch("c").open()
    response = sink.respond("c")
    response.write("first")
    first = [next(watch), next(watch)]
    assert [event.type for event in first] == ["start", "delta"]
    before = backend.published
    for _ in range(300):
        response.write(" more")
    response.finish()  # the end does not wait either
    assert response.wait(_PATIENCE).status == "delivered"
    assert backend.published - before <= 3
    sink.close()


def test_the_text_that_a_part_begins_with_is_the_first_one() -> None:
    with Sink(MemoryBackend(), rollup=0.5) as sink:
        sink._runtime.producer.outbox._interval = 3600.0  # else a slow machine reaches its end
        part = sink.respond("c").part("text", text="first")
        before = sink.stats().writing.publishes
        part.write(" more")
        assert sink.stats().writing.publishes == before


class Pipelined(FaultyBackend):
    """Takes several publishes at a time."""

    def __init__(self, inner: MemoryBackend) -> None:
        super().__init__(inner)
        self.capabilities = msgspec.structs.replace(self.capabilities, window=4)


def test_a_pipelined_backend_is_known_to_be_idle() -> None:
    with Sink(Pipelined(MemoryBackend())) as sink:
        with sink.respond("chat") as response:
            response.write("Hello")
        assert sink.flush(30)
        assert sink.history("chat").items[0].text == "Hello"


def test_what_is_written_while_a_publish_takes_long_is_merged() -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.stall()
    with Sink(backend) as sink:
        response = sink.respond("c")
        pending = response._pending
        deadline = time.monotonic() + 30
        while not pending.inflight:
            assert time.monotonic() < deadline
            threading.Event().wait(0.001)
        for round_ in range(2):
            response.write(f"text {round_}. ")
            while pending.writes:
                assert time.monotonic() < deadline
                threading.Event().wait(0.001)
        background.call_soon(sink, backend.unstall)
        response.finish()
        assert sink.flush(30)
        assert sink.history("c").items[0].text == "text 0. text 1. "


def test_what_interrupts_a_publish_and_writes_takes_nothing_from_it() -> None:
    """A finalizer or a signal's handler may run, and write, wherever a batch is being made."""
    with Sink(MemoryBackend()) as sink:
        sink._runtime.producer.outbox._interval = 3600.0  # so that text gathers
        first, second, finalizer = (sink.respond("c", response_id=name) for name in "abf")

        class Interrupting(str):
            __slots__ = ()

            def __bool__(self) -> bool:  # asked while the batch is made
                finalizer.write("f")
                return True

        for response in (first, second):
            response.write("1")
        first.write(Interrupting("2"))
        second.write("2")
        first.finish()  # takes both along
        for response in (second, finalizer):
            response.finish()
        assert sink.flush(_PATIENCE)
        assert {r.id: r.text for r in sink.history("c").items} == {"a": "12", "b": "12", "f": "f"}


def test_publishes_that_fail_together_are_one_failure() -> None:
    backend = Pipelined(MemoryBackend())
    backend.publish_faults.extend([Publish.FAIL] * 4)
    backend.stall()
    with Sink(backend) as sink:
        outbox = sink._runtime.producer.outbox
        for number in range(4):
            sink.respond(f"chat-{number}")
            deadline = time.monotonic() + 30
            while len(outbox._inflight) <= number:
                assert time.monotonic() < deadline
                threading.Event().wait(0.001)
        background.call_soon(sink, backend.unstall)
        while sink.stats().writing.retries < 4:
            assert time.monotonic() < deadline
            threading.Event().wait(0.001)
        assert outbox._queue.failures <= 1  # each would double the pause before the next try
        assert sink.flush(30)


def test_text_goes_on_after_a_recovery_took_what_waited() -> None:
    """What was refused is healed by a snapshot that has the text which came meanwhile, too."""
    backend = FaultyBackend(MemoryBackend(), publish=[Publish.REJECT])
    backend.stall()
    with Sink(backend) as sink:
        response = sink.respond("c", response_id="r")
        pending = response._pending
        deadline = time.monotonic() + _PATIENCE
        while not pending.inflight:
            assert time.monotonic() < deadline
            threading.Event().wait(0.001)
        response.write("before, ")
        background.call_soon(sink, backend.unstall)
        assert sink.flush(_PATIENCE)
        response.write("and after")
        response.finish()
        assert response.wait(_PATIENCE).status == "recovered"
        assert sink.history("c").items[0].text == "before, and after"


def test_a_response_that_was_flushed_is_made_again() -> None:
    for quiet in (True, False):
        store = MemoryStore()
        # Long enough that a pause of the machine does not end it: then it is not made again.
        sink = Sink(MemoryBackend(store), lease=4.0 if quiet else 60)
        with sink.respond("c", response_id="r", metadata={"user": "u1"}) as response:
            response.write("before ")
            assert sink.flush(_PATIENCE)
            store._channels.clear()  # pyright: ignore[reportPrivateUsage]
            watch = sink.watch("c", response_id="r").open()
            if quiet:  # the next renewal of the lease notices
                assert next(watch).type in ("start", "snapshot")
            response.write("after")
        assert response.wait(_PATIENCE).status == "recovered"
        (kept,) = sink.history("c").items
        assert (kept.text, kept.state) == ("before after", "complete")
        assert kept.metadata == {"user": "u1"}
        sink.close()


def test_a_retry_of_long_ago_does_not_make_a_cancelled_response_count_as_arrived() -> None:
    """Only an end that was itself tried before may have arrived, and been deleted since."""
    store = MemoryStore()
    with Sink(FaultyBackend(MemoryBackend(store), publish=[Publish.FAIL])) as sink:
        response = sink.respond("c", response_id="r")
        response.write("text")
        assert sink.flush(_PATIENCE)
        assert response.receipt.retries == 1
        store._channels.clear()  # pyright: ignore[reportPrivateUsage]
        response.cancel("enough")
        assert response.wait(_PATIENCE).status == "recovered"
        (kept,) = sink.history("c").items
        assert (kept.text, kept.state) == ("text", "cancelled")


class LateControl(FaultyBackend):
    """Listens for cancels only once somebody says so."""

    def __init__(self, inner: MemoryBackend) -> None:
        super().__init__(inner)
        self.go_on = threading.Event()

    async def control(self, channel: str, receiver: Receiver) -> Subscription:
        while not self.go_on.is_set():
            await asyncio.sleep(0.001)
        return await super().control(channel, receiver)


def test_a_cancel_that_came_before_its_producer_listened_is_not_missed() -> None:
    store = MemoryStore()
    backend = LateControl(MemoryBackend(store))
    with Sink(backend, lease=3600.0) as sink, Sink(MemoryBackend(store)) as other:
        response = sink.respond("c", response_id="r")
        response.write("text")
        assert sink.flush(_PATIENCE)
        cancelled = threading.Event()
        response.add_cancel_callback(cancelled.set)
        with ThreadPoolExecutor(1) as threads, other.watch("c") as watch:
            cancelling = threads.submit(other.cancel, "c", "r", timeout=_PATIENCE)
            while not isinstance(next(watch), CancelEvent):
                pass
            assert not cancelled.is_set()
            backend.go_on.set()
            # It comes though the producer writes nothing, and renews in twenty minutes.
            assert cancelling.result(_PATIENCE).state == "cancelled"
        assert cancelled.wait(_PATIENCE)
        assert response.state == "cancelled"


def test_a_join_under_way_ends_when_the_sink_is_closed() -> None:
    backend = FaultyBackend(MemoryBackend())
    sink = Sink(backend, close_timeout=0.05)
    backend.stall()

    async def main() -> None:
        joining = asyncio.create_task(sink.watch("c").aopen())
        iterating = asyncio.create_task(anext(sink.watch("d"), "the end"))
        while sink.stats().channels < 2:
            await asyncio.sleep(0)
        await sink.aclose()
        with pytest.raises(SinkClosed):
            await joining
        assert await iterating == "the end"

    asyncio.run(main())


def test_a_part_may_stay_empty(sink: Sink) -> None:
    with sink.respond("c") as response:
        never, later = response.part("text"), response.part("text")
        response.tool_call("tool", "call-1")
        response.data_part("chart", [1])
        later.write("later")
        never.write("")
    (kept,) = sink.history("c").items
    assert [part.kind for part in kept.parts] == ["tool_call", "data", "text"]
    assert kept.text == "later"
    sink.close()


def test_a_sink_reads_what_it_wrote() -> None:
    sink = Sink(FaultyBackend(MemoryBackend(), publish=[Publish.YIELD, Publish.FAIL]))
    for number in range(5):
        with sink.respond("c", response_id=f"r{number}") as response:
            response.write("all of it")
        newest = sink.history("c", limit=1).items[0]
        assert (newest.id, newest.text, newest.state) == (f"r{number}", "all of it", "complete")
    sink.close()


def test_one_store_for_the_whole_process() -> None:
    with open_sink("memory://meet") as agent, open_sink("memory://meet") as gateway:
        with agent.respond("c") as response:
            response.write("hello")
        assert gateway.history("c").items[0].text == "hello"
    with open_sink("memory://elsewhere") as other:
        assert other.history("c").items == ()
    with pytest.raises(ValueError, match="already open"):
        open_sink("memory://meet", granularity="token")


def test_the_url_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWIRE_URL", "memory://from-the-environment")
    with open_sink() as sink, sink.respond("c") as response:
        response.write("x")
    with open_sink("memory://from-the-environment") as sink:
        assert sink.history("c").items[0].text == "x"


def test_unknown_schemes_are_told_with_what_is_known() -> None:
    with pytest.raises(
        UnknownScheme, match=r"no backend for carrier-pigeon://; known are .*memory"
    ):
        open_sink("carrier-pigeon://coop")
    with pytest.raises(UnknownScheme, match="without a scheme"):
        open_sink("localhost")
    assert "memory" in backend_schemes()


def test_a_missing_extra_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, "redis", "no_such_module_at_all:Backend", monkeypatch, name="fake-redis")
    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda **_: [_point("redis", "no_such_module_at_all:Backend")],
    )
    with pytest.raises(MissingExtra, match=r'pip install "tokenwire\[redis\]"') as caught:
        open_backend("redis://localhost")
    assert isinstance(caught.value, ImportError)
    assert caught.value.__cause__ is not None


def test_a_backend_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pigeon_post.py").write_text(
        textwrap.dedent(
            """
            from tokenwire import MemoryBackend

            class PigeonBackend(MemoryBackend):
                @classmethod
                def from_url(cls, url, *, speed=1, **options):
                    made = cls()
                    made.url, made.speed = url, speed
                    return made
            """
        )
    )
    _install(tmp_path, "pigeon", "pigeon_post:PigeonBackend", monkeypatch, name="pigeon-post")
    assert "pigeon" in backend_schemes()
    with open_sink("pigeon://coop/7", speed=3) as sink:
        assert (sink.backend.url, sink.backend.speed) == ("pigeon://coop/7", 3)  # type: ignore[attr-defined]
        with sink.respond("c") as response:
            response.write("coo")
        assert sink.history("c").items[0].text == "coo"


def _point(name: str, value: str) -> object:
    from importlib.metadata import EntryPoint

    return EntryPoint(name=name, value=value, group="tokenwire.backends")


def _install(
    folder: Path, scheme: str, value: str, monkeypatch: pytest.MonkeyPatch, *, name: str
) -> None:
    """Lay out a distribution with an entry point, as pip would."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tokenwire.backends]\n{scheme} = {value}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_several_event_loops_one_after_the_other(sink: Sink) -> None:
    async def agent(name: str) -> None:
        async with sink.respond("c", response_id=name) as response:
            response.write(name)
        assert await sink.aflush(_PATIENCE)
        assert (await sink.ahistory("c", limit=1)).items[0].text == name

    for name in ("first", "second", "third"):
        asyncio.run(agent(name))
    sink.close()


def test_closing_ends_watches_and_may_be_repeated() -> None:
    sink = Sink(MemoryBackend())
    watch = sink.watch("c").open()
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.extend(event.type for event in watch))
    thread.start()
    with sink.respond("c") as response:
        response.write("x")
    assert sink.close()
    assert sink.close()
    thread.join(_PATIENCE)
    assert not thread.is_alive()
    assert seen[-1:] in (["end"], [])


class Closing(MemoryBackend):
    """Says when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = threading.Event()

    async def close(self) -> None:
        await super().close()
        self.closed.set()


def test_a_backend_is_closed_although_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its connections would stay open until they are collected."""
    monkeypatch.setattr("tokenwire._runtime._MARGIN", 0)
    backend = Closing()
    sink = Sink(backend, close_timeout=0)
    sink.watch("c").open()
    busy = threading.Event()
    sink._runtime.io.call(busy.wait)  # the loop answers nothing before the time is up
    stop = sink._runtime.io.stop
    monkeypatch.setattr(sink._runtime.io, "stop", lambda timeout: (busy.set(), stop(timeout)))
    assert not sink.close()
    assert backend.closed.wait(_PATIENCE)


def test_closing_from_async_code() -> None:
    async def main() -> None:
        async with Sink(MemoryBackend()) as sink:
            watch = await sink.watch("c").aopen()
            async with sink.respond("c") as response:
                response.write("x")
            kinds = [event.type async for event in _first(watch, 3)]
            assert kinds == ["start", "delta", "end"]
        assert sink.closed

    asyncio.run(main())


async def _first(watch: tokenwire.Watch, count: int):  # type: ignore[no-untyped-def]
    async for event in watch:
        yield event
        count -= 1
        if not count:
            return


def test_a_watch_that_is_dropped_lets_go(sink: Sink) -> None:
    watch = sink.watch("c").open()
    assert sink.stats().watchers == 1
    del watch
    gc.collect()
    moment = threading.Event()
    while sink.stats().watchers:
        moment.wait(0.01)
    sink.close()


def test_cancel_callbacks_that_raise_are_logged(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    called = threading.Event()

    def broken() -> None:
        raise RuntimeError("in a callback")

    response = sink.respond("c", response_id="r")
    response.add_cancel_callback(broken)
    undo = response.add_cancel_callback(lambda: pytest.fail("it was taken back"))
    undo()
    response.add_cancel_callback(called.set)
    assert sink.cancel("c", "r").state == "cancelled"
    assert called.wait(_PATIENCE)
    late: list[int] = []
    response.add_cancel_callback(lambda: late.append(1))
    assert late == [1]
    assert "a cancel callback failed" in caplog.text
    sink.close()


def test_a_cancel_that_nobody_answers() -> None:
    store = MemoryStore()
    backend = FaultyBackend(MemoryBackend(store))
    producer = Sink(backend, close_timeout=0.05)
    producer.respond("c", response_id="r")
    assert producer.flush(_PATIENCE)
    backend.kill()
    producer._runtime.producer._leases._listeners.clear()  # pyright: ignore[reportPrivateUsage] - nor does it hear
    viewer = Sink(MemoryBackend(store))
    for timeout in (0.05, 0.5, 5.0, _PATIENCE):  # longer, where the machine is so slow
        with suppress(BackendUnavailable):
            assert viewer.cancel("c", "r", timeout=timeout).state in ("streaming", "cancelled")
            break
    else:
        pytest.fail("the cancel was not taken")
    producer.close()
    viewer.close()


def test_an_input_that_cannot_be_taken() -> None:
    backend = FaultyBackend(MemoryBackend())
    sink = Sink(backend, close_timeout=0.05)
    backend.kill()
    with pytest.raises(BackendUnavailable, match="not taken within"):
        sink.input("c", "message", timeout=0.05)
    with pytest.raises(BackendUnavailable):
        sink.cancel("c", "r", timeout=0.05)
    sink.close()


def test_nothing_blocks_on_the_io_thread(sink: Sink) -> None:
    caught: list[BaseException] = []
    done = threading.Event()

    def callback() -> None:
        try:
            sink.history("c")
        except RuntimeError as error:
            caught.append(error)
        done.set()

    background.call_soon(sink, callback)
    assert done.wait(_PATIENCE)
    assert "blocks" in str(caught[0])
    sink.close()


def test_channels_by_context(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWIRE_CHANNEL", "from-env")
    assert sink.respond().channel == "from-env"
    with tokenwire.channel("chat-42", run="run-9"):
        response = sink.respond()
        assert (response.channel, response.run) == ("chat-42", "run-9")
        assert sink.respond("other").channel == "other"
        assert sink.respond(lambda: "called").channel == "called"
        assert sink.respond(lambda: None).channel == "chat-42"
        with tokenwire.run("run-10"):
            assert sink.respond().run == "run-10"
    assert tokenwire.current_channel() is None
    sink.close()


def test_the_default_channel_is_warned_of_once(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TOKENWIRE_CHANNEL", raising=False)
    monkeypatch.setattr("tokenwire.context._warned", False)
    assert {sink.respond().channel for _ in range(3)} == {"default"}
    assert caplog.text.count("no channel named") == 1

    def broken() -> str:
        raise KeyError

    assert sink.respond(broken).channel == "default"
    assert "the channel function failed" in caplog.text
    sink.close()


def test_secrets_do_not_reach_watchers(sink: Sink) -> None:
    with sink.respond("c") as response:
        response.fail("401 https://user:pa55@host/ with Bearer abc.def-ghi and sk-proj-12345678")
    error = sink.history("c").items[0].error or ""
    assert "401" in error
    for secret in ("pa55", "abc.def", "12345678"):
        assert secret not in error
    sink.close()


def _run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_sink_survives_fork() -> None:
    done = _run(
        """
        import os, sys, tokenwire
        from tokenwire import MemoryBackend, Sink
        from tokenwire.testing import FaultyBackend, Publish
        sink = Sink(FaultyBackend(MemoryBackend()))
        open_in_parent = sink.respond("c", response_id="parent")
        open_in_parent.write("before ")
        assert sink.flush(30)
        child = os.fork()
        if child == 0:
            open_in_parent.write("from the child")  # goes nowhere, see below
            with sink.respond("c", response_id="child") as response:
                response.write("hello from the child")
            assert response.wait(30).status == "delivered", response.receipt
            texts = {r.id: (r.state, r.text) for r in sink.history("c").items}
            assert texts["child"] == ("complete", "hello from the child"), texts
            assert texts["parent"] == ("streaming", "before "), texts
            sink.close()
            os._exit(7)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7, status
        open_in_parent.write("after")
        open_in_parent.finish()
        assert open_in_parent.wait(30).status == "delivered"
        (kept,) = sink.history("c").items
        assert (kept.state, kept.text) == ("complete", "before after"), kept
        sink.close()
        """
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_while_threads_write() -> None:
    done = _run(
        """
        import os, threading, tokenwire
        sink = tokenwire.open_sink("memory://")
        stop = threading.Event()
        def produce(n):
            k = 0
            while not stop.is_set():
                k += 1
                with sink.respond("c", response_id=f"{n}-{k}") as r:
                    for _ in range(20): r.write("x")
        threads = [threading.Thread(target=produce, args=(n,)) for n in range(3)]
        [t.start() for t in threads]
        for _ in range(5):
            child = os.fork()
            if child == 0:
                with sink.respond("mine") as r: r.write("ok")
                ok = sink.history("mine").items[0].text == "ok"
                os._exit(0 if ok else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        stop.set()
        [t.join() for t in threads]
        sink.close()
        """
    )
    assert done.returncode == 0, done.stderr


def test_the_interpreter_exit_flushes(tmp_path: Path) -> None:
    """What a script wrote right before its end is published, and what is open is ended."""
    log = tmp_path / "log"
    done = _run(
        f"""
        import asyncio, tokenwire
        from tokenwire import MemoryBackend, Sink
        from tokenwire.testing import FaultyBackend, Publish

        class Slow(FaultyBackend):
            async def publish(self, entries):
                await asyncio.sleep(0.05)
                outcomes = await self.inner.publish(entries)
                with open({str(log)!r}, "a") as file:
                    for entry in entries:
                        for event in entry.events:
                            file.write(event.type + " " + getattr(event, "state", "") + "\\n")
                return outcomes

        sink = Sink(Slow(MemoryBackend()))
        with sink.respond("c") as response:
            response.write("all")
        left_open = sink.respond("c")
        left_open.write("some")
        """
    )
    assert done.returncode == 0, done.stderr
    kinds = log.read_text().split("\n")
    assert "end complete" in kinds
    assert "end abandoned" in kinds


def test_the_interpreter_exit_is_bounded() -> None:
    done = _run(
        """
        import asyncio
        from tokenwire import MemoryBackend, Sink
        from tokenwire.testing import FaultyBackend, Publish

        class Hanging(FaultyBackend):
            async def publish(self, entries):
                await asyncio.Event().wait()

        sink = Sink(Hanging(MemoryBackend()), close_timeout=0.1)
        sink.respond("c").write("never taken")
        """
    )
    assert done.returncode == 0, done.stderr
    assert "not delivered" in done.stderr


def test_importing_core_imports_no_framework() -> None:
    done = _run(
        """
        import sys, tokenwire
        foreign = {"openai", "anthropic", "langchain_core", "llama_index", "redis", "ably",
                   "starlette", "tokenwire_adapters"} & set(sys.modules)
        assert not foreign, foreign
        """
    )
    assert done.returncode == 0, done.stderr


def test_problems_are_logged_once_a_minute(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "tokenwire")
    for _ in range(5):
        sink.respond("bad\nname")
    assert len([r for r in caplog.records if "channel must not" in r.message]) == 1
    sink.close()


@pytest.mark.parametrize("lease", [0.05, 1.0, 15.0, 3600.0])
def test_the_dead_are_found_within_the_lease(lease: float) -> None:
    with Sink(MemoryBackend(), lease=lease) as sink:
        between = 1.2 * sink._runtime.hubs._reap_every  # pyright: ignore[reportPrivateUsage]
        granted = sink.respond("c")._pending.template.lease
        assert granted + between <= lease
        assert granted >= 2 * lease / 3  # a renewal may fail; they come every third of it


def test_the_shared_random_numbers_are_left_alone() -> None:
    """An agent that seeds `random` gets the same numbers with us as without."""
    backend = FaultyBackend(MemoryBackend(), publish=[Publish.FAIL] * 2)
    sink = Sink(backend, lease=0.3)
    before = random.getstate()
    with sink.watch("c"), sink.respond("c") as response:
        response.write("x")
    assert response.wait(_PATIENCE).retries == 2
    assert random.getstate() == before
    sink.close()


def test_a_pause_of_the_process_abandons_none_of_its_responses() -> None:
    with Sink(MemoryBackend(), lease=0.5) as sink, sink.watch("c"):
        response = sink.respond("c", response_id="r")
        response.write("before")
        # As after SIGSTOP or a laptop's sleep: all timers of the loop are overdue at once.
        background.call_soon(sink, time.sleep, 1.0)
        background.run(sink, asyncio.sleep(0.3))
        response.write(" after")
        response.finish()
        (kept,) = sink.history("c").items
        assert (kept.state, kept.text) == ("complete", "before after")


def test_the_first_token_of_a_summary_is_never_after_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Text may be taken for publishing after its response has ended."""
    monkeypatch.setattr("tokenwire._writing.draft.now_ms", lambda: 10**15)
    summaries: list[tokenwire.ResponseSummary] = []
    with Sink(MemoryBackend()) as sink:
        remove = sink.add_response_observer(summaries.append)
        with sink.respond("c") as response:
            response.write("Hello")
        response.wait(30)
        remove()
    (summary,) = summaries
    assert summary.first_token_at == summary.ended_at
    assert summary.tokens_per_second is None
