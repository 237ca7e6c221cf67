"""`tokenwire.instrument`: the same stream, and a response in the channel beside it."""

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import tokenwire
from tokenwire import Response, ResponseCancelled, Sink
from tokenwire._instrument.recorder import _settle
from tokenwire.claims import Claim, claiming
from tokenwire.instrument import Options, Patches, Recorder, SdkInstrumentor, record, recorder_of

_numbers = itertools.count()


class Words(Recorder):
    """Each chunk is a word; the last one ends with a full stop."""

    provider = "toy"
    api = "words"
    last_word = ""

    def feed(self, item: str) -> None:
        self.writer().write(item)
        self.last_word = item

    def feed_reply(self, reply: str) -> None:
        self.feed(reply)

    def finish(self) -> None:
        self.writer().finish(self.finish_reason(0))

    def finish_reason(self, index: int) -> str | None:
        return "stop" if self.last_word.endswith(".") else None


class Source:
    """What an SDK's iterator is: it gives chunks, may fail, and can be closed."""

    def __init__(self, *chunks: str, error: Exception | None = None) -> None:
        self.closed = 0
        self._chunks = iter(chunks)
        self._error = error

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for chunk in self._chunks:
            return chunk
        raise self._error or StopIteration

    def close(self) -> None:
        self.closed += 1


class AsyncSource(Source):
    def __aiter__(self) -> AsyncIterator[str]:
        return self  # type: ignore[return-value]

    async def __anext__(self) -> str:
        await asyncio.sleep(0)
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def sink() -> Iterator[Sink]:
    with tokenwire.open_sink(f"memory://instrument-{next(_numbers)}", strict=True) as sink:
        yield sink


@pytest.fixture
def only(sink: Sink) -> Callable[[], Response]:
    """Wait until the one response of the channel has ended."""

    def read() -> Response:
        (response,) = sink.history("c").items
        with sink.watch("c", response_id=response.id) as watch:
            for _ in watch:
                pass
        (response,) = sink.history("c").items
        return response

    return read


Only = Callable[[], Response]
WORDS = ["Hello", " there", "."]


@pytest.fixture
def options(sink: Sink) -> Options:
    return Options(sink, channel="c")


async def collect(stream: Any) -> list[Any]:
    if hasattr(stream, "__anext__"):
        return [item async for item in stream]
    return list(stream)


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_the_same_chunks(kind: type[Source], options: Options, only: Only) -> None:
    source = kind(*WORDS)
    read = await collect(record(source, Words(options, {"model": "m"})))
    assert all(item is word for item, word in zip(read, WORDS, strict=True))
    assert source.closed == 1
    response = only()
    assert (response.text, response.state, response.finish_reason) == (
        "Hello there.",
        "complete",
        "stop",
    )
    assert response.metadata == {"provider": "toy", "api": "words", "model": "m"}


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_the_same_error(kind: type[Source], options: Options, only: Only) -> None:
    error = ConnectionError("gone")
    with pytest.raises(ConnectionError) as raised:
        await collect(record(kind("Hello", error=error), Words(options)))
    assert raised.value is error
    assert (only().text, only().state) == ("Hello", "failed")
    assert "gone" in (only().error or "")


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_the_same_close(kind: type[Source], options: Options, only: Only) -> None:
    source = kind(*WORDS)
    stream: Any = record(source, Words(options))
    if kind is Source:
        assert next(stream) == "Hello"
        stream.close()
    else:
        assert await anext(stream) == "Hello"
        await stream.aclose()
    assert source.closed == 1
    assert (await asyncio.to_thread(only)).state == "cancelled"
    assert only().text == "Hello"


def test_dropped_midway(options: Options, only: Only) -> None:
    source = Source(*WORDS)
    for _ in record(source, Words(options)):
        break
    gc.collect()
    assert source.closed == 1
    assert only().state == "cancelled"


def test_dropped_unread(options: Options, only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenwire._instrument.recorder._SETTLE", 0.05)
    recorder = Words(options)
    recorder.begin()
    record(Source(*WORDS), recorder)
    gc.collect()
    assert only().state == "cancelled"


def test_what_it_is_bound_to_is_dropped(options: Options, only: Only) -> None:
    recorder = Words(options)
    recorder.begin()
    recorder.bind(Source())
    gc.collect()
    assert only().state == "cancelled"


def test_a_finished_reply_that_is_not_read_to_its_end(
    options: Options, only: Only, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenwire._instrument.recorder._SETTLE", 0.05)
    recorder = Words(options)
    stream = record(Source(*WORDS, "!"), recorder)
    for chunk in stream:
        if chunk == ".":
            recorder.settle_later(chunk)
            break
    assert (only().text, only().state) == ("Hello there.", "complete")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_finished_reply_whose_consumer_waits_for_more_is_not_ended(
    is_async: bool, options: Options, only: Only
) -> None:
    """The usage, say, may come long after the last word."""
    recorder = Words(options)

    def source() -> Iterator[str]:
        yield "Hello."
        _settle(weakref.ref(recorder), recorder.last, False)  # as the timer does meanwhile
        yield " And more."

    async def asource() -> AsyncIterator[str]:
        for chunk in source():
            yield chunk

    stream = record(asource() if is_async else source(), recorder)
    assert await collect(stream) == ["Hello.", " And more."]
    response = await asyncio.to_thread(only)
    assert (response.text, response.state) == ("Hello. And more.", "complete")


def _cancel(sink: Sink) -> None:
    (response,) = sink.history("c").items
    assert sink.cancel("c", response.id, reason="enough").state == "cancelled"
    assert sink.flush(30)


@pytest.mark.parametrize("on_cancel", ["end", "raise"])
@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_a_watcher_cancels(
    kind: type[Source], on_cancel: Any, sink: Sink, only: Only
) -> None:
    source, aborted = kind(*WORDS), threading.Event()
    recorder = Words(Options(sink, channel="c", on_cancel=on_cancel))
    recorder.bind(source, abort=lambda response: response is source and aborted.set())
    stream: Any = record(source, recorder)
    assert (next(stream) if kind is Source else await anext(stream)) == "Hello"
    await asyncio.to_thread(_cancel, sink)
    assert await asyncio.to_thread(aborted.wait, 60)
    if on_cancel == "raise":
        with pytest.raises(ResponseCancelled) as raised:
            await collect(stream)
        assert (raised.value.response_id, raised.value.reason) == (only().id, "enough")
    else:
        assert await collect(stream) == []
    assert source.closed == 1
    assert (only().text, only().state) == ("Hello", "cancelled")


async def test_without_abort_the_response_is_closed(options: Options, sink: Sink) -> None:
    class Closing(Source):
        closing = threading.Event()

        def close(self) -> None:
            self.closing.set()

    recorder, source = Words(options), Closing(*WORDS)
    recorder.begin()
    recorder.bind(source)
    await asyncio.to_thread(_cancel, sink)
    assert await asyncio.to_thread(Closing.closing.wait, 60)


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_a_recorder_that_fails_changes_nothing(
    kind: type[Source], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Words):
        def feed(self, item: str) -> None:
            if item != "Hello":
                raise KeyError(item)
            super().feed(item)

    with tokenwire.open_sink("memory://instrument-broken") as sink:
        channel = f"c-{kind.__name__}"
        read = await collect(record(kind(*WORDS), Broken(Options(sink, channel=channel))))
        assert read == WORDS
        (response,) = sink.history(channel).items
    assert (response.text, response.state) == ("Hello", "failed")
    assert "cannot record a stream of toy" in caplog.text


def test_a_strict_sink_raises_what_a_recorder_raises(options: Options) -> None:
    class Broken(Words):
        def feed(self, item: str) -> None:
            raise KeyError(item)

    with pytest.raises(KeyError):
        list(record(Source(*WORDS), Broken(options)))


def test_around_a_request(options: Options, only: Only) -> None:
    with pytest.raises(ValueError), Words(options) as recorder:
        recorder.begin()
        raise ValueError("no such model")
    assert only().state == "failed"
    assert "no such model" in (only().error or "")


def test_around_a_request_that_is_interrupted(options: Options, only: Only) -> None:
    with pytest.raises(KeyboardInterrupt), Words(options) as recorder:
        recorder.begin()
        raise KeyboardInterrupt
    assert only().state == "cancelled"


def test_the_recorder_of_a_chunk(options: Options) -> None:
    assert recorder_of(None) is None
    recorder = Words(options)
    for chunk in record(Source(*WORDS), recorder):
        assert recorder_of(chunk) is recorder
    assert recorder_of(WORDS[-1]) is None


@pytest.mark.parametrize(
    ("wrong", "error"), [({"on_cancel": "stop"}, ValueError), ({"channel": 7}, TypeError)]
)
def test_options_are_checked(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Options(**wrong)


# -- instrumentors


class Sdk:
    """An SDK with one call."""

    def ask(self) -> str:
        return "Hello."


class SdkInstrumentorOfTests(SdkInstrumentor):
    module = "tests.core.test_instrument"

    def patch(self) -> None:
        self.patches.replace(Sdk, "ask", self._ask)

    def _ask(self, original: Callable[[Sdk], str]) -> Callable[[Sdk], str]:
        def ask(client: Sdk) -> str:
            recorder = self.recorder(Words, {}, client)
            if recorder is None:
                return original(client)
            with recorder:
                reply = original(client)
            recorder.record_reply(reply)
            return reply

        return ask


@pytest.fixture
def instrumentor() -> Iterator[SdkInstrumentorOfTests]:
    original = Sdk.ask
    instrumentor = SdkInstrumentorOfTests()
    yield instrumentor
    instrumentor.patches.restore()
    assert Sdk.ask is original


def texts(sink: Sink, channel: str = "c") -> list[str]:
    return [response.text for response in sink.history(channel).items]


def test_every_client(
    instrumentor: SdkInstrumentorOfTests, sink: Sink, options: Options, only: Only
) -> None:
    original = Sdk.ask
    instrumentor.start(options)
    assert Sdk().ask() == "Hello."
    instrumentor.stop()
    assert Sdk.ask is original
    Sdk().ask()
    assert (only().text, only().finish_reason) == ("Hello.", "stop")


def test_one_client(instrumentor: SdkInstrumentorOfTests, sink: Sink, options: Options) -> None:
    client, other = Sdk(), Sdk()
    instrumentor.start(Options(sink, channel="all"))
    instrumentor.add_client(client, options)  # its own options come first
    client.ask()
    instrumentor.stop()
    client.ask()
    other.ask()
    instrumentor.remove_client(client)
    client.ask()
    assert texts(sink) == ["Hello."] * 2
    assert texts(sink, "all") == []


def test_claimed_calls(instrumentor: SdkInstrumentorOfTests, sink: Sink) -> None:
    instrumentor.record_claimed_calls()
    Sdk().ask()
    claim = Claim(channel="c", response_id="r1", run="run", metadata={"above": 1}, sink=sink)
    with claiming(claim):
        Sdk().ask()
        Sdk().ask()  # another call: the claim is of the first
    with claiming(Claim(channel="c", sink=sink, instrument=False)):
        Sdk().ask()
    (response,) = sink.history("c").items
    assert (response.id, response.run, response.metadata["above"]) == ("r1", "run", 1)
    assert isinstance(claim.owner, Words)
    assert claim.writer.id == "r1"


def test_a_claim_is_taken_by_one(
    instrumentor: SdkInstrumentorOfTests, sink: Sink, options: Options
) -> None:
    instrumentor.record_claimed_calls()
    instrumentor.start(options)
    claim = Claim(channel="claimed", sink=sink)
    with claiming(claim):
        Sdk().ask()
    assert texts(sink) == ["Hello."]  # the options name the channel
    assert texts(sink, "claimed") == []
    suppressed = Claim()
    suppressed.suppress(object())
    with claiming(suppressed):
        Sdk().ask()
    assert texts(sink) == ["Hello."]


def test_patches_leave_what_others_have_patched_over() -> None:
    class Owner:
        def method(self) -> int:
            return 1

    patches = Patches()
    assert not patches
    patches.replace(Owner, "method", lambda original: lambda self: original(self) + 1)
    patches.replace(Owner, "method", lambda original: lambda self: original(self) + 10)
    patches.replace(Owner, "missing", lambda original: original)
    assert Owner().method() == 2
    ours = Owner.method
    Owner.method = lambda self: ours(self) * 10  # type: ignore[method-assign]
    patches.restore()
    assert patches
    assert Owner().method() == 20
    Owner.method = ours  # type: ignore[method-assign]
    patches.restore()
    assert Owner().method() == 1
