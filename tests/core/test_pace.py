"""What was written is published without further help, whichever thread writes and blocks."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire import Fenced, MemoryBackend, ResponseWriter, Sink, Watch
from tokenwire.backend import Entry, Outcome
from tokenwire.events import DeltaEvent, EndEvent, Event
from tokenwire.memory import MemoryStore
from tokenwire.testing import FaultyBackend
from tokenwire.testing.producers import read_until

_PATIENCE = 30.0


class Reached:
    """Says when the text of one response has reached a length; it must come without a hole."""

    def __init__(self, length: int, response_id: str | None = None) -> None:
        self.text = ""
        self.length = length
        self.response_id = response_id

    def __call__(self, event: Event) -> bool:
        if isinstance(event, DeltaEvent) and self.response_id in (None, event.response_id):
            assert event.offset == len(self.text)
            self.text += event.text
        return len(self.text) >= self.length


async def _read(watch: Watch, reached: Reached) -> str:
    async with asyncio.timeout(_PATIENCE):
        while not reached(await anext(watch)):
            pass
    return reached.text


def test_a_slow_model_is_published_token_by_token() -> None:
    """Each token arrives before the next is written."""
    store = MemoryStore()
    with Sink(MemoryBackend(store)) as sink, Sink(MemoryBackend(store)) as elsewhere:
        response = sink.respond("c")
        with elsewhere.watch("c", rewind="all").open() as watch:
            reached = Reached(0)
            for number in range(6):
                response.write(f"{number} ")
                reached.length += 2
                read_until(watch, reached, timeout=_PATIENCE)
        assert reached.text == "0 1 2 3 4 5 "
        response.finish()


def test_a_burst_is_published_without_another_write() -> None:
    with Sink(MemoryBackend()) as sink, sink.watch("c").open() as watch:
        response = sink.respond("c")
        reached = Reached(0)
        for _ in range(3):
            for _ in range(20):
                response.write("x")
            reached.length += 20
            read_until(watch, reached, timeout=_PATIENCE)
        assert reached.text == "x" * 60
        response.finish()


def test_many_responses_side_by_side_are_published() -> None:
    with Sink(MemoryBackend()) as sink, sink.watch("c").open() as watch:
        writers = [sink.respond("c") for _ in range(50)]
        for text in "ab":
            for writer in writers:
                writer.write(text)
        texts = {writer.id: Reached(2, writer.id) for writer in writers}

        def complete(event: Event) -> bool:
            reached = texts.get(event.response_id or "")
            if reached is not None:
                reached(event)
            return all(one.text == "ab" for one in texts.values())

        read_until(watch, complete, timeout=_PATIENCE)


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
    """Says of what the response ``lost`` wrote that it belongs to another producer."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self.refused = refused

    def publish_nowait(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        outcomes = super().publish_nowait(entries)
        return [
            Outcome(error=Fenced("another's")) if self._refuses(entry) else outcome
            for entry, outcome in zip(entries, outcomes, strict=True)
        ]

    def _refuses(self, entry: Entry) -> bool:
        return entry.response_id == "lost" and any(
            isinstance(event, DeltaEvent) and text in event.text
            for event in entry.events
            for text in self.refused
        )


def test_strict_mode_raises_what_was_refused_and_tells_the_others() -> None:
    sink = Sink(Usurped("x"), strict=True)
    lost, other = sink.respond("c", response_id="lost"), sink.respond("c", response_id="other")
    with pytest.raises(Fenced):
        lost.write("x")
        sink.flush(_PATIENCE)
    other.write("y")
    other.finish()
    assert other.wait(_PATIENCE).status == "delivered"
    assert lost.receipt.status == "refused"
    assert sink.flush(_PATIENCE)  # nothing is left hanging
    assert sink.stats().waiting == 0
    sink.close()


async def test_strict_mode_raises_what_was_refused_later_and_troubles_no_loop() -> None:
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    sink = Sink(Usurped("y"), strict=True)
    lost = sink.respond("c", response_id="lost")
    lost.write("x")
    with pytest.raises(Fenced):
        lost.write("y")  # soon after the first: most often, it is published by and by
        async with asyncio.timeout(_PATIENCE):
            while not lost.ended:
                await asyncio.sleep(0.005)
        await sink.aflush(_PATIENCE)
    assert lost.receipt.status == "refused"
    assert not problems
    await sink.aclose()


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


def test_a_flush_ends_while_others_write() -> None:
    """`flush` waits for what another thread is publishing, and nothing is lost to it."""
    with Sink(MemoryBackend()) as sink, sink.respond("c") as response:
        stop = threading.Event()
        written = 0

        def write() -> None:
            nonlocal written
            while not stop.is_set():
                response.write("x")
                written += 1
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
        (found,) = sink.history("c").items
        assert found.text == "x" * written


async def test_a_flush_after_a_burst_ends() -> None:
    async with Sink(MemoryBackend()) as sink:
        async with sink.respond("c") as response:
            for _ in range(20):
                response.write("x")
        assert await sink.aflush(_PATIENCE)
        page = await sink.ahistory("c")
        assert [one.text for one in page.items] == ["x" * 20]


class Rounding(asyncio.SelectorEventLoop):
    """Counts whole milliseconds, as uvloop does; here it always rounds down."""

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        when = int(delay * 1000) / 1000
        return super().call_later(when, callback, *args, context=context)


@pytest.mark.parametrize("make", [asyncio.SelectorEventLoop, Rounding])
def test_bursts_on_an_event_loop_are_published(make: type[asyncio.AbstractEventLoop]) -> None:
    async def bursts() -> None:
        async with Sink(MemoryBackend()) as sink, sink.watch("c") as watch:
            response = sink.respond("c")
            reached = Reached(0)
            for _ in range(20):
                for _ in range(10):
                    response.write("a")
                response.write("b")
                reached.length += 11
                assert (await _read(watch, reached)).endswith("b")
            assert reached.text == ("a" * 10 + "b") * 20
            response.finish()

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(bursts())


@pytest.mark.parametrize("fate", ["blocked", "closed"])
def test_a_burst_does_not_depend_on_its_event_loop(fate: str) -> None:
    """What is written on a loop that then blocks, or ends, arrives all the same."""
    with Sink(MemoryBackend()) as sink:
        response = sink.respond("c")
        published = threading.Event()
        watch = sink.watch("c").open()
        reached = Reached(21)

        def wait() -> None:
            with watch:
                read_until(watch, reached, timeout=_PATIENCE)
                published.set()

        async def burst() -> None:
            for _ in range(20):
                response.write("a")
            response.write("b")
            if fate == "blocked":
                assert published.wait(_PATIENCE)

        watcher = threading.Thread(target=wait)
        watcher.start()
        asyncio.run(burst())
        assert published.wait(_PATIENCE)
        watcher.join(_PATIENCE)
        assert reached.text == "a" * 20 + "b"
        response.finish()


def test_a_stalled_backend_is_sent_what_gathered_in_few_deltas() -> None:
    """While nothing can be sent, text is merged: it costs no more than its length."""
    backend = FaultyBackend(MemoryBackend())
    with Sink(backend) as sink, sink.watch("c").open() as watch:
        response = sink.respond("c")
        response.write("first ")
        read_until(watch, Reached(6), timeout=_PATIENCE)
        backend.stall()
        before = backend.published
        for number in range(5000):
            response.write(f"{number} ")
        response.finish()
        assert sink.stats().waiting
        backend.unstall()
        assert response.wait(_PATIENCE).status == "delivered"
        events = read_until(watch, lambda event: isinstance(event, EndEvent), timeout=_PATIENCE)
        deltas = [event for event in events if isinstance(event, DeltaEvent)]
        assert "".join(delta.text for delta in deltas) == "".join(f"{n} " for n in range(5000))
        # As many as may be under way at once, and what gathered behind them.
        window = backend.capabilities.window
        assert len(deltas) <= window + 2
        assert backend.published - before <= window + 3


_TEXTS = st.one_of(st.text(max_size=4), st.sampled_from(["", "a", "😀", "é"]))
_HALVES = st.sampled_from(["a", "é", "\ud83d", "\ude00"])  # of a character
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(["text", "reasoning"]), _TEXTS),
        st.tuples(st.just("part"), st.sampled_from(["text", "data"]), _TEXTS),
        st.tuples(st.just("more"), st.integers(0, 3), _HALVES),
        st.tuples(st.just("result"), st.integers(0, 2), _TEXTS),
        st.tuples(st.just("flush"), st.none(), st.none()),
    ),
    max_size=25,
)


def _written(steps: list[Any], interval: float, granularity: Any) -> tuple[Any, ...]:
    with Sink(MemoryBackend(granularity=granularity)) as sink:
        sink._runtime.producer.outbox._interval = interval
        response, parts = sink.respond("c", response_id="r"), []
        for step, which, text in steps:
            if step == "write":
                response.write(text, kind=which)
            elif step == "part":
                parts.append(response.part(which, name="n", text=text))
            elif step == "more" and parts:
                parts[which % len(parts)].write(text)
            elif step == "result":
                response.tool_result(f"call-{which}", text)
            elif step == "flush":
                sink.flush()
        response.finish()
        assert response.wait(_PATIENCE).status == "delivered"
        (kept,) = sink.history("c").items
        return kept.parts, kept.tool_results, sink.stats().writing.tokens


@given(steps=_STEPS, granularity=st.sampled_from(["token", "response"]))
def test_what_is_published_at_once_is_what_gathers(steps: list[Any], granularity: Any) -> None:
    at_once = _written(steps, 0.0, granularity)
    assert at_once == _written(steps, 0.01, granularity)


def test_what_is_written_while_a_text_is_taken_follows_it() -> None:
    """By another thread, or by a signal's handler."""

    def interrupt(frame: FrameType, event: str, function: Any) -> None:
        name = getattr(function, "__name__", "")
        if frame.f_code.co_name == "take_text" and name == "isascii" and interruptions:
            interruptions.pop()
            response.write("b")

    with Sink(MemoryBackend(), strict=True) as sink:
        sink._runtime.producer.outbox._interval = 0.0
        response = sink.respond("c")
        response.write("a")
        interruptions = [1]
        before = sys.getprofile()
        sys.setprofile(interrupt)
        try:
            response.write("a")
        finally:
            sys.setprofile(before)
        assert not interruptions
        response.write("c")
        response.finish()
        assert sink.history("c").items[0].text == "aabc"


@pytest.mark.parametrize("granularity", ["token", "response"])
def test_threads_that_publish_at_once_lose_nothing(granularity: Any) -> None:
    count = 300
    with Sink(MemoryBackend(granularity=granularity), strict=True) as sink:
        sink._runtime.producer.outbox._interval = 0.0
        responses = [sink.respond("c", response_id=f"r{number}") for number in range(3)]

        def write(letter: str) -> None:
            for number in range(count):
                responses[number % 3].write(letter)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)
        for response in responses:
            response.finish()
        kept = sink.history("c").items
        assert sorted("".join(one.text for one in kept)) == sorted("abcd" * count)
        assert sink.stats().writing.tokens == 4 * count
