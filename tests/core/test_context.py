"""Channel and run of blocks, in generators too, whichever context and thread each step has."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import subprocess
import sys
import textwrap
import threading
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest

import tokenwire
from tokenwire import MemoryBackend, Sink
from tokenwire.claims import Claim, claiming, current_claim
from tokenwire.context import ContextBlock, current_metadata, metadata, resolve_channel
from tokenwire.errors import ChannelMissing, InvalidName
from tokenwire.opening import open_sink

Here = tuple[str | None, str | None]
NOWHERE: Here = (None, None)


def here() -> Here:
    return tokenwire.current_channel(), tokenwire.current_run()


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    assert here() == NOWHERE
    yield
    assert here() == NOWHERE


# -- ways to be in a block


def in_a_block(name: str) -> Iterator[Here]:
    with tokenwire.channel(name, run=f"run-{name}"):
        for _ in range(3):
            yield here()


def in_two_blocks(name: str) -> Iterator[Here]:
    with tokenwire.channel(name), tokenwire.run(f"run-{name}"):
        for _ in range(3):
            yield here()


@contextmanager
def helper(name: str) -> Iterator[None]:
    with tokenwire.channel(name), tokenwire.run(f"run-{name}"):
        yield


class OwnManager:
    """A context manager that is not contextlib's."""

    def __init__(self, name: str) -> None:
        self._block = tokenwire.channel(name, run=f"run-{name}")

    def __enter__(self) -> None:
        self._block.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._block.__exit__(None, None, None)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.__exit__()


def by_a_helper(name: str) -> Iterator[Here]:
    with helper(name):
        for _ in range(3):
            yield here()


def by_a_manager(name: str) -> Iterator[Here]:
    with OwnManager(name):
        for _ in range(3):
            yield here()


def by_a_stack(name: str) -> Iterator[Here]:
    with ExitStack() as stack:
        stack.enter_context(tokenwire.channel("another"))
        stack.enter_context(helper(name))
        for _ in range(3):
            yield here()


def by_hand(name: str) -> Iterator[Here]:
    def enter() -> Any:
        block = tokenwire.channel(name, run=f"run-{name}")
        block.__enter__()
        return block

    block = enter()
    try:
        for _ in range(3):
            yield here()
    finally:
        block.__exit__(None, None, None)


def in_an_inner_generator(name: str) -> Iterator[Here]:
    yield from in_a_block(name)


def around_an_inner_generator(name: str) -> Iterator[Here]:
    with tokenwire.channel(name, run=f"run-{name}"):
        for found in in_a_block("inner"):
            assert found == ("inner", "run-inner")
            yield here()


def around_one_with_none(name: str) -> Iterator[Here]:
    def inner() -> Iterator[Here]:
        for _ in range(3):
            yield here()

    with tokenwire.channel(name, run=f"run-{name}"):
        yield from inner()


def around_a_deeper_block(name: str) -> Iterator[Here]:
    with tokenwire.channel(name, run=f"run-{name}"):
        for _ in range(3):
            with tokenwire.run("deeper"):
                assert here() == (name, "deeper")
            with helper("deeper"):
                assert here() == ("deeper", "run-deeper")
            yield here()


def with_nested_blocks(name: str) -> Iterator[Here]:
    with tokenwire.channel("outer", run=f"run-{name}"):
        assert here() == ("outer", f"run-{name}")
        with tokenwire.channel(name):
            for _ in range(3):
                yield here()
        assert here() == ("outer", f"run-{name}")
    assert here()[0] != name


GENERATORS = [
    in_a_block,
    in_two_blocks,
    by_a_helper,
    by_a_manager,
    by_a_stack,
    by_hand,
    in_an_inner_generator,
    around_an_inner_generator,
    around_one_with_none,
    around_a_deeper_block,
    with_nested_blocks,
]


# -- ways to read a generator

Advance = Callable[[Iterator[Here]], Here | None]


def in_a_copy(generator: Iterator[Here]) -> Here | None:
    return contextvars.copy_context().run(next, generator, None)


def in_an_empty_context(generator: Iterator[Here]) -> Here | None:
    return contextvars.Context().run(next, generator, None)


def in_a_thread(generator: Iterator[Here]) -> Here | None:
    found: list[Here | None] = []
    thread = threading.Thread(target=lambda: found.append(in_a_copy(generator)))
    thread.start()
    thread.join()
    return found[0]


def in_another_block(generator: Iterator[Here]) -> Here | None:
    def advance() -> Here | None:
        with tokenwire.channel("reader", run="reader"):
            found = next(generator, None)
            assert here() == ("reader", "reader")
            return found

    return contextvars.copy_context().run(advance)


def right_here(generator: Iterator[Here]) -> Here | None:
    return next(generator, None)


READERS = [in_a_copy, in_an_empty_context, in_a_thread, in_another_block, right_here]


def read(generator: Iterator[Here], advance: Advance) -> list[Here]:
    found: list[Here] = []
    while (one := advance(generator)) is not None:
        found.append(one)
    return found


@pytest.mark.parametrize("advance", READERS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generator_is_in_its_own_block(
    generator: Callable[[str], Iterator[Here]], advance: Advance
) -> None:
    assert read(generator("c"), advance) == [("c", "run-c")] * 3


@pytest.mark.parametrize("advance", READERS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generator_inside_an_outer_block(
    generator: Callable[[str], Iterator[Here]], advance: Advance
) -> None:
    with tokenwire.channel("request", run="run-request"):
        assert read(generator("c"), advance) == [("c", "run-c")] * 3
        assert here() == ("request", "run-request")


@pytest.mark.parametrize("outer", [False, True])
def test_generators_that_are_read_in_turn(outer: bool) -> None:
    with ExitStack() as stack:
        if outer:
            stack.enter_context(tokenwire.channel("request", run="run-request"))
        around = here()
        names = [f"c{n}" for n in range(len(GENERATORS))]
        open_ones = {name: make(name) for name, make in zip(names, GENERATORS, strict=True)}
        order = random.Random(1)
        while open_ones:
            name = order.choice(list(open_ones))
            advance = order.choice(READERS)
            one = open_ones[name]
            # Read by this very function, or elsewhere.
            found = next(one, None) if advance is right_here else advance(one)
            if found is None:
                del open_ones[name]
            else:
                assert found == (name, f"run-{name}")
            assert here() == around


@pytest.mark.parametrize("generator", GENERATORS)
def test_closing_in_another_context_raises_nothing(
    generator: Callable[[str], Iterator[Here]],
) -> None:
    one: Any = generator("c")
    assert next(one) == ("c", "run-c")
    contextvars.copy_context().run(one.close)
    assert here() == NOWHERE
    other: Any = generator("d")
    contextvars.copy_context().run(next, other)
    other.close()


def test_many_requests_in_one_pool_of_threads() -> None:
    names = [f"c{n}" for n in range(40)]
    wrong: list[tuple[str, Here]] = []

    def request(name: str, pool: ThreadPoolExecutor) -> None:
        generator = GENERATORS[int(name[1:]) % len(GENERATORS)](name)
        while (found := pool.submit(in_a_copy, generator).result()) is not None:
            if found != (name, f"run-{name}"):
                wrong.append((name, found))

    with ThreadPoolExecutor(4) as pool, ThreadPoolExecutor(8) as requests:
        list(requests.map(lambda name: request(name, pool), names))
        assert wrong == []
        assert {pool.submit(here).result() for _ in range(20)} == {NOWHERE}


def test_who_reads_a_generator_is_not_in_its_block() -> None:
    def outer() -> Iterator[tuple[Here, Here]]:
        for found in in_a_block("inner"):
            yield found, here()

    for found, around in outer():
        assert found == ("inner", "run-inner")
        assert around == here() == NOWHERE
    with tokenwire.channel("request"):
        assert {around for _, around in outer()} == {("request", None)}


def test_a_helper_that_is_not_left_until_later() -> None:
    """As fixtures of pytest are: a generator is advanced, and what follows is in its block."""

    def fixture() -> Iterator[None]:
        with tokenwire.channel("fixture"):
            yield

    def enter(generator: Iterator[None]) -> None:
        next(generator)

    generator = fixture()
    enter(generator)
    assert here() == ("fixture", None)
    assert read(in_a_block("c"), in_a_copy) == [("c", "run-c")] * 3
    assert next(generator, "done") == "done"


def test_a_generator_that_is_dropped_is_closed_at_once() -> None:
    closed: list[Here] = []

    def generator() -> Iterator[None]:
        with tokenwire.channel("c"):
            try:
                yield
            finally:
                closed.append(here())

    gc.disable()
    try:
        one = generator()
        contextvars.copy_context().run(next, one)
        del one
        assert closed == [("c", None)]
    finally:
        gc.enable()


def test_what_a_generator_held_is_given_back() -> None:
    class Held:
        pass

    held: list[weakref.ref[Held]] = []

    def generator() -> Iterator[None]:
        value = Held()
        held.append(weakref.ref(value))
        with tokenwire.channel("c"), ExitStack() as stack:
            stack.enter_context(tokenwire.run("r"))
            yield

    for advance in (in_a_copy, right_here):
        assert advance(generator()) is None  # type: ignore[arg-type]
    assert [ref() for ref in held] == [None, None]


def test_contexts_do_not_grow_with_each_task() -> None:
    """A task that begins the next one, in its block, for ever."""
    sizes: list[int] = []

    async def link(n: int) -> None:
        with tokenwire.channel(f"c{n}"), tokenwire.run(f"r{n}"):
            assert here() == (f"c{n}", f"r{n}")
            blocks = [
                v for k, v in contextvars.copy_context().items() if k.name == "tokenwire_blocks"
            ]
            sizes.append(sum(len(value) for value in blocks))
            if n < 50:
                following.append(asyncio.create_task(link(n + 1)))
            if n % 2:  # half of them are left before the next begins
                await asyncio.sleep(0)

    async def main() -> None:
        following.append(asyncio.create_task(link(0)))
        for task in following:
            await task

    following: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert len(sizes) == 51
    assert max(sizes) <= 6


# -- async generators


async def ain_a_block(name: str) -> AsyncIterator[Here]:
    with tokenwire.channel(name, run=f"run-{name}"):
        for _ in range(3):
            await asyncio.sleep(0)
            yield here()


@asynccontextmanager
async def ahelper(name: str) -> AsyncIterator[None]:
    await asyncio.sleep(0)
    with tokenwire.channel(name, run=f"run-{name}"):
        yield


async def aby_a_helper(name: str) -> AsyncIterator[Here]:
    async with ahelper(name):
        for _ in range(3):
            await asyncio.sleep(0)
            yield here()


async def aby_a_manager(name: str) -> AsyncIterator[Here]:
    async with OwnManager(name):
        for _ in range(3):
            yield here()


async def aby_a_stack(name: str) -> AsyncIterator[Here]:
    async with AsyncExitStack() as stack:
        stack.enter_context(tokenwire.channel("another"))
        await stack.enter_async_context(ahelper(name))
        for _ in range(3):
            yield here()


async def aby_a_coroutine(name: str) -> AsyncIterator[Here]:
    async def step() -> Here:
        await asyncio.sleep(0)
        return here()

    async def deeper() -> Here:
        with tokenwire.channel("deeper"):
            await asyncio.sleep(0)
            return here()

    with tokenwire.channel(name, run=f"run-{name}"):
        for _ in range(3):
            assert await deeper() == ("deeper", f"run-{name}")
            yield await step()


async def aaround_an_inner_one(name: str) -> AsyncIterator[Here]:
    with tokenwire.channel(name, run=f"run-{name}"):
        async for found in ain_a_block("inner"):
            assert found == ("inner", "run-inner")
            yield here()


ASYNC_GENERATORS = [
    ain_a_block,
    aby_a_helper,
    aby_a_manager,
    aby_a_stack,
    aby_a_coroutine,
    aaround_an_inner_one,
]


async def astep(generator: AsyncIterator[Here]) -> Here | None:
    return await anext(generator, None)


async def in_a_task(generator: AsyncIterator[Here]) -> Here | None:
    return await asyncio.create_task(astep(generator))


async def in_a_task_without_context(generator: AsyncIterator[Here]) -> Here | None:
    return await asyncio.create_task(astep(generator), context=contextvars.Context())


async def in_a_task_with_a_block(generator: AsyncIterator[Here]) -> Here | None:
    async def step() -> Here | None:
        with tokenwire.channel("reader"):
            return await anext(generator, None)

    return await asyncio.create_task(step())


ASYNC_READERS = [astep, in_a_task, in_a_task_without_context, in_a_task_with_a_block]


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("generator", ASYNC_GENERATORS)
@pytest.mark.parametrize("advance", ASYNC_READERS)
async def test_an_async_generator_is_in_its_own_block(
    generator: Any, advance: Any, outer: bool
) -> None:
    with ExitStack() as stack:
        if outer:
            stack.enter_context(tokenwire.channel("request", run="run-request"))
        around = here()
        one = generator("c")
        while (found := await advance(one)) is not None:
            assert found == ("c", "run-c")
            assert advance is astep or here() == around
        assert here() == around


async def test_who_reads_an_async_generator_is_not_in_its_block() -> None:
    async for found in aaround_an_inner_one("c"):
        assert found == ("c", "run-c")
        assert here() == NOWHERE
    with tokenwire.channel("request"):
        async for _ in ain_a_block("c"):
            assert here() == ("request", None)


async def test_async_generators_that_are_read_in_turn_and_at_once() -> None:
    async def consume(name: str, generator: Any) -> None:
        order = random.Random(name)
        while (found := await order.choice(ASYNC_READERS)(generator)) is not None:
            assert found == (name, f"run-{name}")
            await asyncio.sleep(0)

    pairs = [(f"c{n}", ASYNC_GENERATORS[n % len(ASYNC_GENERATORS)]) for n in range(20)]
    await asyncio.gather(*(consume(name, generator(name)) for name, generator in pairs))
    order, open_ones = random.Random(2), {name: generator(name) for name, generator in pairs}
    while open_ones:
        name = order.choice(list(open_ones))
        found = await order.choice(ASYNC_READERS)(open_ones[name])
        if found is None:
            del open_ones[name]
        else:
            assert found == (name, f"run-{name}")


@pytest.mark.parametrize("generator", ASYNC_GENERATORS)
async def test_closing_in_another_task_raises_nothing(generator: Any) -> None:
    one = generator("c")
    assert await anext(one) == ("c", "run-c")
    await asyncio.create_task(one.aclose())
    assert here() == NOWHERE
    two = generator("c")
    await asyncio.create_task(anext(two))
    await two.aclose()


async def test_one_that_the_loop_closes() -> None:
    """As after ``break``: the loop closes it in a task of its own, and this context goes on."""
    loop = asyncio.get_running_loop()
    errors: list[Any] = []
    loop.set_exception_handler(lambda _, details: errors.append(details))
    tasks = len(asyncio.all_tasks())
    one: Any = ain_a_block("c")
    assert await anext(one) == ("c", "run-c")
    del one
    gc.collect()
    await asyncio.sleep(0)  # the loop is asked to close it
    while len(asyncio.all_tasks()) > tasks:
        await asyncio.sleep(0)
    assert errors == []
    assert here() == NOWHERE


# -- what goes on elsewhere


async def test_a_task_keeps_the_block_that_it_was_begun_in() -> None:
    left = asyncio.Event()

    async def work() -> tuple[Here, Here]:
        await left.wait()
        before = here()
        with tokenwire.channel("own"):
            assert here() == ("own", "r")
        return before, here()

    with tokenwire.channel("c", run="r"):
        task = asyncio.create_task(work())
    left.set()
    assert await task == (("c", "r"), ("c", "r"))


async def test_tasks_of_a_generator_keep_its_block() -> None:
    async def work() -> Here:
        await asyncio.sleep(0)
        return here()

    async def generator() -> AsyncIterator[asyncio.Task[Here]]:
        with tokenwire.channel("c", run="r"):
            yield asyncio.create_task(work())
            await asyncio.sleep(0)

    async for task in generator():
        assert await task == ("c", "r")


def test_threads_with_a_copied_context_keep_the_block() -> None:
    with ThreadPoolExecutor(1) as pool:
        with tokenwire.channel("c"):
            copy = contextvars.copy_context()
        assert pool.submit(copy.run, here).result() == ("c", None)
        assert pool.submit(here).result() == NOWHERE


def test_a_loop_that_a_generator_runs() -> None:
    """Its tasks have blocks of their own, although the generator is on everybody's stack."""

    async def one(name: str | None) -> Here:
        with ExitStack() as stack:
            if name is not None:
                stack.enter_context(tokenwire.channel(name))
            for _ in range(3):
                await asyncio.sleep(0)
            return here()

    async def many() -> list[Here]:
        return await asyncio.gather(one("a"), one(None), one("b"))

    def generator() -> Iterator[list[Here]]:
        with tokenwire.channel("c", run="r"):
            yield asyncio.run(many())

    assert next(generator()) == [("a", "r"), ("c", "r"), ("b", "r")]


def test_a_decorator() -> None:
    @tokenwire.channel("c")
    def function() -> Here:
        return here()

    assert function() == function() == ("c", None)


@pytest.mark.parametrize(
    "block",
    [tokenwire.channel("c", metadata={"user": "u1"}), metadata(user="u1")],
    ids=["channel", "metadata"],
)
def test_a_decorator_gives_its_metadata(block: ContextBlock) -> None:
    assert block(current_metadata)() == {"user": "u1"}
    assert current_metadata() == {}


def test_one_object_entered_again() -> None:
    block = tokenwire.channel("c")
    for _ in range(2):
        with block as name, block:
            assert name == "c"
            assert here() == ("c", None)
        assert here() == NOWHERE


def test_one_that_is_dropped_is_left() -> None:
    tokenwire.channel("c").__enter__()
    gc.collect()
    assert here() == NOWHERE


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 257, 7])
def test_a_bad_name_enters_nothing(bad: Any) -> None:
    for block in (tokenwire.channel(bad), tokenwire.channel("c", run=bad), tokenwire.run(bad)):
        with pytest.raises(InvalidName), block:
            raise AssertionError
        assert here() == NOWHERE


def test_a_claim_is_left_in_another_context() -> None:
    def generator() -> Iterator[None]:
        with claiming(Claim()):
            yield

    one: Any = generator()
    contextvars.copy_context().run(next, one)
    one.close()
    assert current_claim() is None


# -- without a default channel


def test_a_sink_without_a_default_channel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TOKENWIRE_CHANNEL", raising=False)
    with open_sink(MemoryBackend(), default_channel=None) as sink:
        with sink.respond() as response:
            response.write("somebody's text")
        sink.send_event(None, "event")
        sink.tool_result(None, "call", "result")
        assert caplog.text.count("no default_channel") == 1
        assert "no channel named; using" not in caplog.text
        with sink.respond(lambda: "named"), tokenwire.channel("c"):
            assert sink.respond().channel == "c"
            sink.tool_result(None, "call", "result", response_id="r")
        for name in ("default", "invalid"):
            assert not sink.history(name).items
        monkeypatch.setenv("TOKENWIRE_CHANNEL", "from-env")
        assert sink.respond().channel == "from-env"


def test_strict_sinks_raise_where_no_channel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENWIRE_CHANNEL", raising=False)
    with open_sink(MemoryBackend(), default_channel=None, strict=True) as sink:
        for call in (
            sink.respond,
            lambda: sink.send_event(None, "event"),
            lambda: sink.tool_result(None, "call"),
        ):
            with pytest.raises(ChannelMissing, match="no channel named"):
                call()


def test_another_default_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKENWIRE_CHANNEL", raising=False)
    with open_sink(MemoryBackend(), default_channel="mine") as sink:
        assert sink.respond().channel == "mine"
    with pytest.raises(InvalidName):
        Sink(MemoryBackend(), default_channel="")
    monkeypatch.setenv("TOKENWIRE_REQUIRE_CHANNEL", "1")
    with open_sink(MemoryBackend()) as sink, open_sink(MemoryBackend(), default_channel="x") as two:
        assert (sink.default_channel, two.default_channel) == (None, "x")


def test_one_that_dies_without_being_closed_is_forgotten() -> None:
    """The loop is gone when an async generator is dropped: nobody runs it to its end."""
    program = """
    import asyncio, gc, tokenwire
    async def generator():
        with tokenwire.channel("c"):
            yield
    one = generator()
    loop = asyncio.new_event_loop()
    async def step():
        await anext(one)
    loop.run_until_complete(step())
    loop.close()
    del one
    gc.collect()
    from tokenwire._context import blocks
    assert not blocks._holders, list(blocks._holders)
    assert tokenwire.current_channel() is None
    """
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], check=True, timeout=60
    )


def test_a_block_gives_its_responses_metadata_and_takes_a_uuid_as_the_run() -> None:
    run_id = uuid.uuid4()
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        with tokenwire.channel("c", run=run_id, metadata={"user": "ann", "n": 1}):
            with tokenwire.context.metadata(n=2), tokenwire.run(run_id):
                with sink.respond(response_id="inner", metadata={"own": True}):
                    pass
            with sink.respond(response_id="outer"):
                pass
        with sink.respond("c", response_id="outside", run=run_id):  # type: ignore[arg-type]
            pass
        replies = {reply.id: reply for reply in sink.history("c").items}
    assert replies["inner"].metadata == {"user": "ann", "n": 2, "own": True}
    assert replies["outer"].metadata == {"user": "ann", "n": 1}
    assert replies["outside"].metadata == {}
    assert {reply.run for reply in replies.values()} == {str(run_id)}
    assert tokenwire.context.current_metadata() == {}


@pytest.mark.parametrize(
    ("first", "block", "channel"),
    [
        (None, None, "session"),
        ("0", None, "session"),
        ("1", None, "environment"),
        ("1", "block", "block"),
    ],
)
def test_the_environment_may_come_before_the_session(
    first: str | None, block: str | None, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENWIRE_CHANNEL", "environment")
    if first is not None:
        monkeypatch.setenv("TOKENWIRE_CHANNEL_FIRST", first)
    with ExitStack() as stack:
        if block:
            stack.enter_context(tokenwire.channel(block))
        assert resolve_channel(session="session") == channel
        assert resolve_channel("explicit", session="session") == "explicit"
