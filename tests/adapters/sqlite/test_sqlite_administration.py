"""Administration of a file beyond the contract: what is erased and trimmed, earlier schemas."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from tokenwire import Deleted, Retention, Sink, open_sink
from tokenwire.backend import Backend, ReplayFrom
from tokenwire.errors import BackendUnavailable, InvalidCursor
from tokenwire_adapters._backends.sqlite import administration, database
from tokenwire_adapters._backends.sqlite.options import from_url
from tokenwire_adapters.sqlite import SQLiteBackend

T = TypeVar("T")
SECRET = "my address is "
DELETIONS: dict[str, Callable[[Sink], object]] = {
    "response": lambda sink: sink.delete_response("c", "secret"),
    "user": lambda sink: sink.delete_user("u1", channels=["c"]),
    "channel": lambda sink: sink.delete_channel("c"),
}


def run(url: str, use: Callable[[SQLiteBackend], Awaitable[T]]) -> T:
    """Use a backend of its own, on a loop of its own."""

    async def main() -> T:
        backend = SQLiteBackend(url)
        try:
            return await use(backend)
        finally:
            await backend.close()

    return asyncio.run(main())


def write(sink: Sink, text: str, *, channel: str = "c", **options: Any) -> str:
    """Write a response whose id is its text; return the cursor of its end."""
    with sink.respond(channel, response_id=text, **options) as response:
        response.write(text)
    return response.wait(10).cursor or ""


def ids(sink: Sink, channel: str = "c") -> list[str]:
    return [response.id for response in sink.history(channel).items]


def occurrences(path: Path, text: str) -> int:
    """How often a text is in the files of a database, whatever SQLite makes of that place."""
    files = [path, *(one for one in path.parent.glob(f"{path.name}-*") if one.is_file())]
    return sum(file.read_bytes().count(text.encode()) for file in files)


# -- deletion


@pytest.mark.parametrize("what", DELETIONS)
@pytest.mark.parametrize("granularity", ["response", "token"])
def test_deleted_text_is_erased_from_the_files(
    path: Path, url: str, granularity: str, what: str
) -> None:
    with open_sink(url, granularity=granularity) as sink, open_sink(url) as other:
        write(sink, "before")
        response = sink.respond("c", response_id="secret", metadata={"user": "u1"})
        for number in range(40):  # it is folded now and then, so that parts are there several times
            response.write(f"{SECRET}{number} " * 20)
            response.write("x" * 5000)  # longer than a page
            assert sink.flush(10)
        response.finish()
        response.wait(10)
        write(sink, "after")
        assert len(ids(other)) == 3
        assert occurrences(path, SECRET)
        DELETIONS[what](other)
        assert "secret" not in ids(sink)
        assert occurrences(path, SECRET) == 0


def test_whoever_reads_an_earlier_state_puts_erasing_off(
    path: Path, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_sink(f"{url}?timeout=0.05") as sink:
        write(sink, SECRET)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM responses").fetchone() == (1,)
        with caplog.at_level(logging.WARNING, "tokenwire"):
            sink.delete_response("c", SECRET)
        assert "not erased from the files yet: somebody reads an earlier state" in caplog.text
        assert ids(sink) == []
        reader.close()
        write(sink, "other")
        sink.delete_response("c", "other")
        assert occurrences(path, SECRET) == 0


def test_a_deletion_is_whole_or_not_at_all(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with open_sink(url) as sink:
        write(sink, "one", metadata={"user": "u1"})
        sink.input("c", "question", "one", sender="u1")
        assert sink.flush(10)
        with monkeypatch.context() as patch:
            patch.setattr(administration, "remove_folded", fails)
            patch.setattr(administration, "store_retention", fails)
            for delete in (
                lambda: sink.delete_user("u1", channels=["c"]),
                lambda: sink.delete_channel("c"),
            ):
                with pytest.raises(BackendUnavailable):
                    delete()
                assert ids(sink) == ["one"]
        assert sink.delete_channel("c") == Deleted(responses=1, events=1)


@pytest.mark.parametrize("granularity", ["response", "token"])
def test_what_streams_meanwhile_keeps_its_text(url: str, granularity: str) -> None:
    """Its text is in the log only, between that of the response which is deleted."""
    with open_sink(url, granularity=granularity) as sink, open_sink(url) as other:
        going = sink.respond("c", response_id="going")
        gone = sink.respond("c", response_id="gone")
        for text in ("first, ", "second, "):
            going.write(text)
            gone.write(text)
            assert sink.flush(10)
        gone.finish()
        gone.wait(10)
        assert other.delete_response("c", "gone")
        assert [response.text for response in other.history("c").items] == ["first, second, "]
        going.write("third")
        going.finish()
        assert going.wait(10).status == "delivered"
        assert [response.text for response in other.history("c").items] == ["first, second, third"]


def test_a_channel_knows_what_is_left_of_it(path: Path, url: str) -> None:
    """Else it would keep too little or too much, and be listed when it is empty."""
    with open_sink(url) as sink:
        for text in ("one", "second", "the third"):
            write(sink, text, metadata={"user": text[:3]})
            sink.input("c", "question", text, sender=text[:3])
            sink.send_event("c", "note", text, response_id=text)
        assert sink.flush(10)
        for left, text in enumerate(("one", "the third"), 1):
            assert sink.delete_user(text[:3], channels=["c"]).events == 2
            with contextlib.closing(sqlite3.connect(path)) as db:
                known = db.execute(
                    "SELECT singles, ended, ended_bytes, events, event_bytes FROM channels"
                ).fetchone()
                rows = db.execute(
                    "SELECT (SELECT count(*) FROM log WHERE kind > 0), (SELECT count(*) FROM"
                    " responses), (SELECT sum(size) FROM responses), coalesce(sum(count), 0),"
                    " coalesce(sum(length(log.events)), 0) FROM log, channels AS c"
                    " WHERE kind = 0 AND log.last > c.tail"
                ).fetchone()
            assert known == rows
            assert known[1] == 3 - left
        assert [channel.responses for channel in sink.list_channels()] == [1]
        sink.delete_user("sec", channels=["c"])
        assert list(sink.list_channels()) == []


def test_a_cursor_after_what_was_deleted_goes_on(url: str) -> None:
    with open_sink(url) as sink:
        before = write(sink, "before")
        write(sink, "secret")
        after = write(sink, "after")
        write(sink, "last")
        sink.delete_response("c", "secret")

    async def resets(backend: Backend) -> list[bool]:
        return [(await backend.replay("c", ReplayFrom(after=c))).reset for c in (before, after)]

    assert run(url, resets) == [True, False]


# -- the list of channels


def test_pages_of_channels_are_in_order_and_without_a_gap(url: str) -> None:
    names = ["a", "ab", "ab🙂", "ab🙂z", "ac", "b"]
    with open_sink(url) as sink:
        for name in reversed(names):
            sink.send_event(name, "n")
        sink.set_retention("ab without anything", Retention())
        assert sink.flush(10)

    async def pages(backend: Backend) -> list[list[str]]:
        listed: list[list[str]] = []
        token: str | None = None
        while token is not None or not listed:
            page = await backend.list_channels(prefix="ab", limit=2, after=token)
            listed.append([channel.name for channel in page.items])
            token = page.next
        with pytest.raises(InvalidCursor, match="not a page token"):
            await backend.list_channels(after="ab")
        return listed

    assert run(url, pages) == [["ab", "ab🙂"], ["ab🙂z"]]


# -- retention


async def swept(backend: SQLiteBackend) -> list[str]:
    """Open the file as a new process does, and see which channels still have something."""
    for _ in range(2):  # what is due is done between what is asked for
        await backend.publish(())
    sweep = partial(backend._writer.change, function=backend._writer._trimmer.sweep)
    assert await backend._writing.run(sweep) == []  # else it would go on sweeping
    return [channel.name for channel in (await backend.list_channels()).items]


KINDS: dict[str, tuple[str, Retention]] = {
    "response": ("event_age=0", Retention()),
    "token": ("granularity=token", Retention(responses=0)),  # there are only its events
    "single": ("event_age=60", Retention()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_channel_is_trimmed_by_an_age_of_its_own(url: str, kind: str) -> None:
    settings, keep = KINDS[kind]
    ages: dict[str, float | None] = {"short": 1e-6, "hour": 3600.0, "unlimited": None}
    with open_sink(f"{url}?{settings}&responses={keep.responses}") as sink:
        for name in (*ages, "usual"):
            if name in ages:
                sink.set_retention(name, replace(keep, age=ages[name]))
            if kind == "single":
                sink.send_event(name, "n")
            else:
                write(sink, "r", channel=name)
        assert sink.flush(10)
    assert run(f"{url}?{settings}", swept) == ["hour", "unlimited", "usual"]
    assert run(f"{url}?{settings}&age=1e-6", swept) == ["hour", "unlimited"]
    assert run(f"{url}?{settings}&age=none", swept) == ["hour", "unlimited"]


def test_a_channel_is_trimmed_by_a_count_of_its_own(url: str) -> None:
    with open_sink(url) as sink:
        sink.set_retention("c", Retention(responses=2))
        for text in "abcd":
            write(sink, text)
            write(sink, text, channel="other")
        assert ids(sink) == ["d", "c"]
        assert len(ids(sink, "other")) == 4
        sink.set_retention("c", Retention(responses=0))
        write(sink, "e")
        assert ids(sink) == []


def test_a_channel_is_trimmed_by_an_amount_of_text_of_its_own(url: str) -> None:
    with open_sink(url) as sink:
        sink.set_retention("c", Retention(bytes=10))
        for text in ("four", "five+", "seven++"):
            write(sink, text)
            write(sink, text, channel="other")
        assert ids(sink) == ["seven++"]
        write(sink, "abc")
        assert ids(sink) == ["abc", "seven++"]  # just as much as is kept
        assert len(ids(sink, "other")) == 3


@pytest.mark.parametrize("own", [Retention(events=4), Retention(event_bytes=200)], ids=repr)
def test_the_log_of_a_channel_is_as_long_as_its_own_retention_says(
    url: str, own: Retention
) -> None:
    with open_sink(url) as sink:
        cursors: dict[str, list[str]] = {"own": [], "usual": []}
        sink.set_retention("own", own)
        for channel, kept in cursors.items():
            kept += [write(sink, str(number), channel=channel) for number in range(10)]

    async def resets(backend: Backend) -> list[list[bool]]:
        return [
            [(await backend.replay(channel, ReplayFrom(after=c))).reset for c in kept]
            for channel, kept in cursors.items()
        ]

    (trimmed, usual) = run(url, resets)
    assert trimmed[0]
    assert not trimmed[-1]
    assert trimmed == sorted(trimmed, reverse=True)
    assert not any(usual)


def test_pages_that_were_freed_are_given_back(path: Path, url: str) -> None:
    with open_sink(url) as sink:
        with sink.respond("c") as response:
            response.write("x" * 4_000_000)
        response.wait(10)
        sink.set_retention("c", Retention(responses=0))
        write(sink, "y")

    def free() -> int:
        with contextlib.closing(sqlite3.connect(path)) as db:
            return int(db.execute("PRAGMA freelist_count").fetchone()[0])

    async def tidy(backend: SQLiteBackend) -> None:
        await backend._writing.run(backend._writer._tidy)

    before = free()
    assert before > 900
    run(url, tidy)
    assert free() == before - 512


@pytest.mark.parametrize("age", [None, 0.1, 1 / 3, 1e300])
def test_a_retention_is_read_as_it_was_set(url: str, age: float | None) -> None:
    own = Retention(responses=0, age=age, bytes=2**62, events=1, event_bytes=2)
    with open_sink(url) as sink, open_sink(f"{url}?age=7") as other:
        sink.set_retention("c", own)
        assert other.retention("c") == own
        assert other.retention("other").age == 7
        write(other, "r")
        other.delete_channel("c")
        assert sink.retention("c") == Retention()


def test_a_file_without_retentions_is_brought_forward(
    path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        database.open_database(from_url(url, {}))[0].close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
    with open_sink(url) as sink:
        write(sink, "r")
        sink.set_retention("c", Retention(responses=7))
        assert sink.retention("c").responses == 7
        assert ids(sink) == ["r"]
