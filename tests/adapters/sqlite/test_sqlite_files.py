"""The file: whose it is, who may read it, which version it has; and when it cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.forking import forked
from tokenwire import open_sink
from tokenwire.backend import Backend, Entry, ReplayFrom
from tokenwire.errors import BackendMisconfigured, BackendUnavailable, InvalidCursor
from tokenwire.events import DataEvent
from tokenwire_adapters._backends.sqlite import database
from tokenwire_adapters.sqlite import SQLiteBackend

T = TypeVar("T")

PATIENCE = 30.0


def run(url: str, use: Callable[[Backend], Awaitable[T]]) -> T:
    """Use a backend of its own, on a loop of its own."""

    async def main() -> T:
        backend = SQLiteBackend(url)
        try:
            return await use(backend)
        finally:
            await backend.close()

    return asyncio.run(main())


def entry(name: str = "n", key: str | None = None) -> Entry:
    return Entry(channel="c", events=(DataEvent(name=name, id=name),), key=key)


async def publish(backend: Backend) -> None:
    (outcome,) = await backend.publish([entry()])
    assert outcome.error is None


async def names(backend: Backend) -> list[str]:
    replay = await backend.replay("c", ReplayFrom(all=True))
    return [event.name for event in replay.events if isinstance(event, DataEvent)]


def refused(url: str, words: str, kind: type[Exception] = BackendMisconfigured) -> None:
    """Neither reading nor writing works, and both say why."""
    for use in (publish, names):
        with pytest.raises(kind, match=words) as caught:
            run(url, use)
        assert type(caught.value) is kind


def test_it_is_readable_by_its_owner_alone(path: Path, url: str) -> None:
    umask = os.umask(0)
    try:
        with open_sink(url) as sink, sink.watch("c").open():
            sink.send_event("c", "n")
            assert sink.flush(10)
            files = [path, *path.parent.glob("chat.db-*")]
            assert len(files) == 4
            for file in files:
                mode = 0o700 if file.is_dir() else 0o600
                assert stat.S_IMODE(file.stat().st_mode) == mode, file
    finally:
        os.umask(umask)


def test_what_others_may_read_stays_so(path: Path, url: str) -> None:
    path.touch()
    path.chmod(0o660)
    run(url, publish)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_database_of_another_program_is_left_alone(path: Path, url: str) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (a)")
    db.commit()
    db.close()
    before = path.read_bytes()
    refused(url, "database of another program")
    db = sqlite3.connect(path)
    db.execute("PRAGMA application_id = 77")
    db.close()
    refused(url, "database of another program")
    assert path.read_bytes()[100:] == before[100:]


def test_what_is_no_database_is_left_alone(path: Path, url: str) -> None:
    path.write_bytes(b"these are somebody's notes\n" * 100)
    refused(url, "no SQLite database")
    assert path.read_bytes() == b"these are somebody's notes\n" * 100


def test_an_empty_file_is_used(path: Path, url: str) -> None:
    path.touch()
    run(url, publish)
    assert run(url, names) == ["n"]


def test_a_later_schema_is_refused(path: Path, url: str) -> None:
    run(url, publish)
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    refused(url, r"later release of tokenwire \(schema 99")


def test_an_earlier_schema_is_brought_forward(
    path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(url, publish)
    more = "ALTER TABLE channels ADD COLUMN title TEXT;\nUPDATE channels SET title = name;\n"
    monkeypatch.setattr(database, "MIGRATIONS", (*database.MIGRATIONS, more))
    assert run(url, names) == ["n"]
    db = sqlite3.connect(path)
    assert db.execute("SELECT title FROM channels").fetchall() == [("c",)]
    assert db.execute("PRAGMA user_version").fetchone() == (len(database.MIGRATIONS),)
    db.close()


def test_a_file_that_somebody_else_begins_just_now_is_ours(path: Path, url: str) -> None:
    class Interrupted(sqlite3.Connection):
        """Another process makes the tables between two statements of this one."""

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            cursor = super().execute(sql, *parameters)
            if "user_version" in sql:
                run(url, publish)
            return cursor

    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, factory=Interrupted)) as db:
        assert database._schema_version(db, str(path)) == 0
    assert run(url, names) == ["n"]


def test_a_damaged_file_is_said_to_be_damaged(path: Path, url: str) -> None:
    with open_sink(url) as sink:
        for number in range(50):
            sink.respond("c", response_id=f"r{number}").finish()
            sink.flush(10)
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(b ^ 0x55 for b in data[4096:])
    path.write_bytes(data)
    refused(url, "is damaged")


def test_a_missing_directory_is_named_with_a_hint(tmp_path: Path) -> None:
    words = "there is no directory .*/no: .*four slashes"
    refused(f"sqlite:///{tmp_path}/no/chat.db", words, BackendUnavailable)
    refused(f"sqlite:///{tmp_path}", "is a directory")


def test_a_network_file_system_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_file_system", lambda path: "nfs4")
    refused(url, r"network file system \(nfs4\)")


def test_the_file_system_of_a_path_is_known() -> None:
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("only Linux says")
    assert database._file_system("/proc/self/stat") == "proc"
    assert database._file_system("/nowhere/at/all") not in ("", "proc")


def test_an_old_sqlite_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    refused(url, "too old: 3.35 is needed")


def test_who_may_not_write_learns_it() -> None:
    if os.getuid() != 0:
        pytest.skip("only root may become somebody else")
    folder = Path(tempfile.mkdtemp())
    url = f"sqlite:///{folder}/chat.db"
    try:
        run(url, publish)
        (folder / "chat.db").chmod(0o644)

        def denied(words: str) -> Callable[[], int]:
            def as_nobody() -> int:
                os.setgid(65534)
                os.setuid(65534)
                try:
                    run(url, publish)
                except BackendMisconfigured as error:
                    return 7 if words in str(error) else 8
                return 0

            return as_nobody

        assert forked(denied("may not be used")) == 7
        folder.chmod(0o755)
        assert forked(denied("cannot be written to")) == 7
        assert run(url, names) == ["n"]
    finally:
        shutil.rmtree(folder)


def test_a_full_disk_loses_nothing_that_was_delivered(path: Path, url: str) -> None:
    """The limit of a process on the size of files is taken for the disk's."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def agent() -> int:
        with open_sink(url) as sink:
            response = sink.respond("c", response_id="r")
            response.write("before, ")
            assert sink.flush(10)
            sizes = [one.stat().st_size for one in path.parent.glob("chat.db*")]
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) + 4096, hard))
            text = "".join(f"{number} words that do not fit, " for number in range(10_000))
            response.write(text)
            assert not sink.flush(0.5)
            (kept,) = sink.history("c").items
            assert kept.text == "before, "
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            response.write("after")
            response.finish("stop")
            assert response.wait(20).status in ("delivered", "recovered")
            (kept,) = sink.history("c").items
            assert kept.text == f"before, {text}after"
        return 7

    assert forked(agent) == 7


def test_a_directory_that_is_gone_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with open_sink(f"sqlite:///{folder}/chat.db") as sink, sink.watch("c").open() as watch:
        response = sink.respond("c", response_id="r")
        response.write("before, ")
        assert sink.flush(10)
        shutil.rmtree(folder)
        response.write("meanwhile, ")
        assert not sink.flush(0.2)
        folder.mkdir()
        response.write("after")
        response.finish("stop")
        assert response.wait(20).status == "recovered"
        assert [r.text for r in sink.history("c").items] == ["before, meanwhile, after"]
        text = ""
        for event in watch:
            text = event.response.text if event.type == "snapshot" else text
            if event.type == "delta":
                text += event.text
            if event.type == "end" or (event.type == "snapshot" and event.response.ended):
                break
        assert text == "before, meanwhile, after"


def test_a_backup_and_its_original_go_their_own_ways(tmp_path: Path, url: str) -> None:
    """A copy is another log: a cursor of the one does not pass for one of the other."""
    other = f"sqlite:///{tmp_path}/copy.db"

    async def copy(backend: Backend) -> str:
        (outcome,) = await backend.publish([entry("both")])
        source = sqlite3.connect(tmp_path / "chat.db")
        target = sqlite3.connect(tmp_path / "copy.db")
        source.backup(target)
        source.close()
        target.close()
        (outcome,) = await backend.publish([entry("original")])
        assert outcome.cursor is not None
        return outcome.cursor

    cursor = run(url, copy)

    async def resume(backend: Backend) -> list[str]:
        await backend.publish([entry("copy")])
        replay = await backend.replay("c", ReplayFrom(after=cursor))
        assert replay.reset
        assert backend.log_of(replay.cursor) != backend.log_of(cursor)
        return [event.name for event in replay.events if isinstance(event, DataEvent)]

    assert run(other, resume) == ["both", "copy"]
    assert run(url, names) == ["both", "original"]


def test_a_copy_beside_the_original_rings_its_own_doorbell(tmp_path: Path, url: str) -> None:
    with open_sink(url) as sink:
        sink.send_event("c", "n")
        assert sink.flush(10)
        with sink.watch("c").open():  # there are sockets
            copied = tmp_path / "elsewhere"
            shutil.copytree(tmp_path, copied, ignore=shutil.ignore_patterns("*-bells", "elsewhere"))
            (copied / "chat.db-bells").mkdir()
            left = copied / "chat.db-bells" / "1-00000000"
            os.mknod(left, stat.S_IFSOCK | 0o600)  # as `cp -r` leaves it
            bells = {one.name for one in (tmp_path / "chat.db-bells").iterdir()}
            with open_sink(f"sqlite:///{copied}/chat.db") as other:
                other.send_event("c", "n")
                assert other.flush(10)
                assert not left.exists()
            assert {one.name for one in (tmp_path / "chat.db-bells").iterdir()} == bells


def test_an_older_backup_that_is_put_back_is_no_hole(path: Path, url: str) -> None:
    """What is published afterwards comes after cursors of what was lost."""
    run(url, publish)
    backup = path.read_bytes()

    async def more(backend: Backend) -> str:
        (outcome,) = await backend.publish([entry("lost")])
        assert outcome.cursor is not None
        return outcome.cursor

    cursor = run(url, more)
    path.write_bytes(backup)

    async def resume(backend: Backend) -> list[str]:
        first = await backend.replay("c", ReplayFrom(after=cursor))
        assert first.reset
        await backend.publish([entry("new")])
        replay = await backend.replay("c", ReplayFrom(after=cursor))
        return [event.name for event in replay.events if isinstance(event, DataEvent)]

    assert "new" in run(url, resume)

    async def future(backend: Backend) -> None:
        epoch, _, number = cursor.partition("-")
        with pytest.raises(InvalidCursor):
            await backend.replay("c", ReplayFrom(after=f"{epoch}-{int(number) + 10**12}"))

    run(url, future)


def test_a_locked_file_is_waited_for(path: Path, url: str) -> None:
    """Readers go on; a writer waits, and says so after its timeout."""
    run(url, publish)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert run(url, names) == ["n"]
    with pytest.raises(BackendUnavailable, match="locked by another process"):
        run(f"{url}?timeout=0.05", publish)

    async def wait(backend: Backend) -> None:
        publishing = asyncio.ensure_future(publish(backend))
        await asyncio.sleep(0.05)
        other.execute("ROLLBACK")
        await publishing

    run(url, wait)
    other.close()
    assert run(url, names) == ["n", "n"]


def test_what_another_process_adds_to_a_response_stays_in_it(url: str) -> None:
    """Its producer goes on from what the file has, not from what it remembers."""
    with open_sink(url) as producer:
        response = producer.respond("c", response_id="r")
        response.write("before, ")
        assert producer.flush(PATIENCE)

        def other() -> int:
            with open_sink(url) as sink:
                sink.tool_result("c", "call-1", 7, response_id="r")
                return 7 if sink.flush(PATIENCE) else 1

        assert forked(other) == 7
        response.write("after")
        response.finish()
        assert response.wait(PATIENCE).status == "delivered"
    with open_sink(url) as reader:
        (kept,) = reader.history("c").items
    assert kept.text == "before, after"
    assert [(result.call_id, result.output) for result in kept.tool_results] == [("call-1", 7)]


def test_a_child_has_connections_of_its_own(url: str) -> None:
    with open_sink(url) as sink, sink.watch("c").open() as watch:
        response = sink.respond("c", response_id="parent")
        response.write("the parent ")
        assert sink.flush(10)

        def child() -> int:
            with sink.respond("c", response_id="child") as own:
                own.write("the child's")
            assert own.wait(20).status == "delivered"
            return 7 if len(sink.history("c").items) == 2 else 1

        statuses = [forked(child)]
        response.write("goes on")
        response.finish("stop")
        assert response.wait(20).status == "delivered"
        assert statuses == [7]
        ends = set()
        for event in watch:
            if event.type == "end":
                ends.add(event.response_id)
                if len(ends) == 2:
                    break
        texts = {r.id: r.text for r in sink.history("c").items}
        assert texts == {"parent": "the parent goes on", "child": "the child's"}
