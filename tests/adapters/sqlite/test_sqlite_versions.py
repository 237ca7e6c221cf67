"""Other versions of SQLite on the same file, each in a process of its own.

Not in this one: two copies of SQLite in a process release each other's locks
(https://sqlite.org/howtocorrupt.html, 2.2.1).
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from typing import Any

import pytest

from tests.support.needs import needs
from tests.support.producing import Producer
from tokenwire import Sink, open_sink
from tokenwire.events import DataEvent, Event
from tokenwire.testing import read_until

PATIENCE = 60.0
TEXT = "naïve 東京 " * 500

PEERS = {
    "apsw": """
import apsw
db, version = apsw.Connection(sys.argv[1]), apsw.sqlite_lib_version()
""",
    "pysqlite3": """
import pysqlite3
db, version = pysqlite3.connect(sys.argv[1], isolation_level=None), pysqlite3.sqlite_version
""",
}
BEGIN = "import json, sys, time\n"
READ = """
from tokenwire.events import decode_msgpack_batch
db.execute("PRAGMA busy_timeout = 30000")
(integrity,) = db.execute("PRAGMA integrity_check").fetchone()
texts = {}
for response, events in db.execute("SELECT response, events FROM log ORDER BY last").fetchall():
    for event in decode_msgpack_batch(events):
        if event.type == "delta":
            texts[response] = texts.get(response, "") + event.text
states = dict(db.execute("SELECT id, state FROM responses").fetchall())
print(json.dumps([version, integrity, texts, states]))
"""
WRITE = """
from tokenwire.events import DataEvent, encode_msgpack_batch
db.execute("PRAGMA busy_timeout = 30000")
db.execute("BEGIN IMMEDIATE")
channel, head = db.execute("SELECT id, head FROM channels WHERE name = 'c'").fetchone()
last = max(head + 1, time.time_ns() // 1000)
events = encode_msgpack_batch([DataEvent(name="theirs")])
db.execute(
    "INSERT INTO log (channel, last, count, kind, events) VALUES (?, ?, 1, 1, ?)",
    (channel, last, events),
)
db.execute("UPDATE channels SET head = ?, singles = singles + 1 WHERE id = ?", (last, channel))
db.execute("COMMIT")
for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA optimize"):
    db.execute(statement).fetchall()
print(json.dumps(version))
"""
INSTEAD = "import sys, pysqlite3\nsys.modules['sqlite3'] = pysqlite3\n"
HISTORY = """
import json, sqlite3
from tokenwire import open_sink
with open_sink(sys.argv[1]) as sink:
    texts = {response.id: response.text for response in sink.history("c").items}
print(json.dumps([sqlite3.sqlite_version, texts]))
"""


def run(code: str, *args: str) -> Any:
    """Run a program, and return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_other(version: str) -> None:
    """Skip the test where both have the same version, which says nothing."""
    if version == sqlite3.sqlite_version:
        pytest.skip(f"Python itself has SQLite {version}")


def is_theirs(event: Event) -> bool:
    return isinstance(event, DataEvent) and event.name == "theirs"


def write_two(sink: Sink) -> None:
    """Write a response that ends, and one that goes on."""
    for name in ("ended", "open"):
        response = sink.respond("c", response_id=name)
        response.write(TEXT)
        if name == "ended":
            response.finish()
    assert sink.flush(30)


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> str:
    """Code that opens the file by another copy of SQLite."""
    needs(request.param)
    return BEGIN + PEERS[request.param]


def test_another_version_reads_a_file_in_use(peer: str, path: str, url: str) -> None:
    with open_sink(url) as sink:
        write_two(sink)
        version, integrity, texts, states = run(peer + READ, str(path))
    check_other(version)
    assert integrity == "ok"
    assert texts == {"ended": TEXT, "open": TEXT}
    assert states == {"ended": "complete", "open": "streaming"}


def test_another_version_writes_to_a_file_in_use(peer: str, path: str, url: str) -> None:
    """Nobody rings: what it wrote is noticed all the same. It packs the file anew, too."""
    with open_sink(url) as sink, sink.watch("c").open() as watch:
        write_two(sink)
        check_other(run(peer + WRITE, str(path)))
        read_until(watch, is_theirs)
        with sink.respond("c", response_id="later") as response:
            response.write(TEXT)
        assert response.wait(30).status == "delivered"
        read_until(watch, lambda event: event.type == "end" and event.response_id == "later")
        assert [one.text for one in sink.history("c").items] == [TEXT] * 3
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_another_version_makes_the_file_and_shares_it(url: str) -> None:
    """The whole backend runs on it, in other processes, while this one reads and writes."""
    needs("pysqlite3")
    with Producer(url, "c", "theirs", prelude=INSTEAD) as producer:
        producer.write(TEXT)
        with open_sink(url) as sink, sink.watch("c").open() as watch:
            with sink.respond("c", response_id="ours") as response:
                response.write(TEXT)
            assert response.wait(30).status == "delivered"
            for number in range(10):
                producer.write(f"{number} ")
            assert producer.finish() == ("delivered", "complete")
            read_until(watch, lambda event: event.type == "end" and event.response_id == "theirs")
            texts = {one.id: one.text for one in sink.history("c").items}
        version, read = run(INSTEAD + HISTORY, url)
    check_other(version)
    assert texts == read == {"ours": TEXT, "theirs": producer.text}
