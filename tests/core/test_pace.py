"""When what was written is published, and by which thread, where the backend can publish inline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tokenwire import Fenced, MemoryBackend, ResponseWriter, Sink, Watch
from tokenwire.backend import Entry, Outcome
from tokenwire.events import DeltaEvent

_PATIENCE = 30.0


class Publishing(MemoryBackend):
    """Remembers which thread published."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def publish_nowait(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        self.threads.append(threading.current_thread())
        return super().publish_nowait(entries)


def test_a_slow_model_is_published_by_the_thread_that_writes() -> None:
    backend = Publishing()
    with Sink(backend) as sink, sink.respond("c") as response:
        response.write("The")  # the first token goes out at once, whatever the pace
        assert sink.stats().writing.tokens == 1
        for _ in range(5):
            until = sink.pace.due
            while time.monotonic() < until:
                threading.Event().wait(0.001)
            before = len(backend.threads)
            response.write(" next")
            assert len(backend.threads) == before + 1  # visible when `write` returns
        assert set(backend.threads) == {threading.current_thread()}


def test_a_burst_is_published_without_another_write() -> None:
    """What comes too soon after a publish is published by the I/O thread, if nobody writes on."""
    with Sink(MemoryBackend()) as sink, sink.watch("c").open() as watch:
        response = sink.respond("c")
        for burst in range(3):
            for _ in range(20):
                response.write("x")
            got = 0
            while got < 20:
                event = next(watch)
                if isinstance(event, DeltaEvent):
                    assert event.offset == burst * 20 + got
                    got += len(event.text)
        response.finish()


def test_many_responses_are_left_to_the_io_thread() -> None:
    backend = Publishing()
    with Sink(backend) as sink, sink.watch("c").open() as watch:
        writers = [sink.respond("c") for _ in range(50)]
        for writer in writers:
            writer.write("a")
        backend.threads.clear()
        sink.pace.due = time.monotonic() + 3600  # nothing comes late enough to be published here
        for writer in writers:
            writer.write("b")
        texts: dict[str | None, str] = {}
        while sorted(texts.values()) != ["ab"] * 50:
            event = next(watch)
            if isinstance(event, DeltaEvent):
                texts[event.response_id] = texts.get(event.response_id, "") + event.text
        assert any(thread.name == "tokenwire-io" for thread in backend.threads)


class Interrupted(MemoryBackend):
    """Writes while it publishes, as a finalizer or a signal's handler may."""

    def __init__(self) -> None:
        super().__init__()
        self.writer: ResponseWriter | None = None

    def publish_nowait(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        writer, self.writer = self.writer, None
        if writer is not None:
            writer.write("from within")
            writer.finish()
        return super().publish_nowait(entries)


def test_a_flush_may_be_interrupted_by_a_write() -> None:
    backend = Interrupted()
    with Sink(backend) as sink:
        one, two = sink.respond("c", response_id="one"), sink.respond("c", response_id="two")
        backend.writer = two
        one.write("around")
        assert two.wait(_PATIENCE).status == "delivered"
        one.finish()
        assert one.wait(_PATIENCE).status == "delivered"
        assert {r.id: r.text for r in sink.history("c").items} == {
            "one": "around",
            "two": "from within",
        }


class Usurped(MemoryBackend):
    """Says of one response that it belongs to another producer."""

    def publish_nowait(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        outcomes = super().publish_nowait(entries)
        return [
            Outcome(error=Fenced("another's"))
            if entry.response_id == "lost" and entry.seq
            else outcome
            for entry, outcome in zip(entries, outcomes, strict=True)
        ]


def test_strict_mode_raises_where_the_write_was_refused_and_tells_the_others() -> None:
    sink = Sink(Usurped(), strict=True)
    lost, other = sink.respond("c", response_id="lost"), sink.respond("c", response_id="other")
    with pytest.raises(Fenced):
        lost.write("x")
    other.write("y")
    other.finish()
    assert other.wait(_PATIENCE).status == "delivered"
    assert lost.receipt.status == "refused"
    assert sink.flush(_PATIENCE)  # nothing is left hanging
    assert sink.stats().waiting == 0
    sink.close()


def test_writes_from_many_threads_arrive() -> None:
    with Sink(MemoryBackend()) as sink:

        def work(number: int) -> None:
            with sink.respond("c", response_id=f"r{number}") as response:
                for n in range(500):
                    response.write(f"{n},")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_PATIENCE)
        assert sink.flush(_PATIENCE)
        expected = "".join(f"{n}," for n in range(500))
        assert [r.text for r in sink.history("c").items] == [expected] * 8
        assert sink.stats().writing.tokens == 4000


def test_a_flush_is_heard_of_while_others_publish() -> None:
    """`flush` waits for what another thread is publishing, and no longer."""
    with Sink(MemoryBackend()) as sink, sink.respond("c") as response:
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                response.write("x")
                threading.Event().wait(0.0005)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(20):
                sink.flush(0.05)
        finally:
            stop.set()
            thread.join(_PATIENCE)
        assert sink.flush(_PATIENCE)


async def _text_of(watch: Watch, length: int) -> str:
    text = ""
    while len(text) < length:
        event = await anext(watch)
        if isinstance(event, DeltaEvent):
            text += event.text
    return text


class Rounding(asyncio.SelectorEventLoop):
    """Counts whole milliseconds, as uvloop does; here it always rounds down."""

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        when = int(delay * 1000) / 1000
        return super().call_later(when, callback, *args, context=context)


@pytest.mark.parametrize("make", [asyncio.SelectorEventLoop, Rounding])
def test_a_burst_on_an_event_loop_is_published_from_that_loop(
    make: type[asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes too soon after a publish waits for a timer of the loop, not for another thread."""
    monkeypatch.setattr(
        "tokenwire._writing.outbox._WATCH", _PATIENCE
    )  # however slow this machine is
    backend = Publishing()

    async def burst() -> None:
        async with Sink(backend) as sink, sink.watch("c") as watch:
            response = sink.respond("c")
            for _ in range(20):
                response.write("a")
                while time.monotonic() >= sink.pace.due:  # a slow machine may take longer
                    response.write("a")
                backend.threads.clear()
                response.write("b")
                async with asyncio.timeout(_PATIENCE / 2):
                    while "b" not in await _text_of(watch, 1):
                        pass
                assert set(backend.threads) == {threading.current_thread()}
            response.finish()

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(burst())


@pytest.mark.parametrize("fate", ["blocked", "closed"])
def test_a_burst_does_not_depend_on_its_event_loop(fate: str) -> None:
    """The I/O thread looks after what an event loop was asked to publish, and does not."""
    backend = Publishing()
    with Sink(backend) as sink:
        response = sink.respond("c")
        published = threading.Event()

        watch = sink.watch("c").open()

        def wait() -> None:
            with watch:
                for event in watch:
                    if isinstance(event, DeltaEvent) and "b" in event.text:
                        published.set()
                        return

        async def burst() -> None:
            response.write("a")
            while time.monotonic() >= sink.pace.due:
                response.write("a")
            response.write("b")
            if fate == "blocked":
                assert published.wait(_PATIENCE)

        watcher = threading.Thread(target=wait)
        watcher.start()
        asyncio.run(burst())
        assert published.wait(_PATIENCE)
        watcher.join(_PATIENCE)
        assert backend.threads[-1].name == "tokenwire-io"
        response.finish()


async def test_strict_mode_tells_later_of_what_a_loop_published_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tokenwire._writing.outbox._WATCH", _PATIENCE)
    sink = Sink(Usurped(), strict=True)
    lost = sink.respond("c", response_id="lost")
    sink.pace.due = time.monotonic() + 0.5  # so that the first text waits for the loop, too
    lost._fresh = False
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(told))
    lost.write("x")
    async with asyncio.timeout(_PATIENCE):
        while not lost.ended:
            await asyncio.sleep(0.005)
    with pytest.raises(Fenced):
        await sink.aflush(_PATIENCE)
    assert not problems
    await sink.aclose()


async def test_the_io_thread_sleeps_while_a_loop_keeps_pace() -> None:
    """Each of its looks would cost the writing thread Python's lock."""
    backend = Publishing()
    async with Sink(backend) as sink, sink.respond("c") as response:
        response.write("x")
        looks = 0
        sleep = sink._outbox._sleep_until

        async def counted(when: float | None) -> None:
            nonlocal looks
            looks += 1
            await sleep(when)

        sink._outbox._sleep_until = counted  # type: ignore[method-assign]
        begun = time.monotonic()
        while len(backend.threads) < 200:
            response.write("x")
            await asyncio.sleep(0)
        assert looks <= 2 + (time.monotonic() - begun) / 0.125


async def test_a_flush_after_a_burst_does_not_wait_for_another_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tokenwire._writing.outbox._WATCH", 2 * _PATIENCE)
    monkeypatch.setattr("tokenwire._writing.outbox._LINGER", 2 * _PATIENCE)
    async with Sink(MemoryBackend()) as sink:
        async with sink.respond("c") as response:
            for _ in range(20):
                response.write("x")
        assert await sink.aflush(_PATIENCE)
