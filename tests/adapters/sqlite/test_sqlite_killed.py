"""A process is killed within every write of SQLite, or power is lost: receipts are kept."""

from __future__ import annotations

import _sqlite3
import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.sqlite.killing import script
from tests.adapters.sqlite.power import states
from tokenwire.backend import ReplayFrom
from tokenwire.response import Transcript
from tokenwire_adapters.sqlite import SQLiteBackend


def _library() -> str | None:
    """The SQLite that Python uses, where it is a shared library."""
    maps = Path("/proc/self/maps")
    assert _sqlite3
    found = re.search(r"/\S*libsqlite3\S*", maps.read_text()) if maps.exists() else None
    return found[0] if found else None


def _texts(receipts: int) -> dict[str, str]:
    """The texts after so many transactions of the script."""
    transcript = Transcript()
    for entry in script()[: receipts * 2]:
        for event in entry.events:
            transcript.apply(event)
    return {response.id: response.text for response in transcript}


async def _check(url: str, receipts: list[list[str]]) -> int:
    """Look at a file; return how many responses it has."""
    backend = SQLiteBackend(url)
    try:
        delivered, all_ = _texts(len(receipts)), _texts(len(script()))
        await asyncio.sleep(0.002)  # the leases run out
        replay = await backend.replay("c", ReplayFrom(all=True))
        history = await backend.history("c", limit=10)
        transcript = Transcript(replay.events)
        assert {r.id: r for r in transcript} == {r.id: r for r in history.items}
        for response in transcript:
            assert response.ended
            assert response.text.startswith(delivered.get(response.id, ""))
            assert all_[response.id].startswith(response.text)
            if response.state == "complete":
                assert response.text == all_[response.id]
        assert {r.id for r in transcript} >= set(delivered)
        for cursor in (cursor for pair in receipts for cursor in pair):
            resumed = await backend.replay("c", ReplayFrom(after=cursor))
            assert resumed.cursor == replay.cursor
        (problem,) = await backend._reading.run(
            lambda file: file.db.execute("PRAGMA integrity_check").fetchone()
        )
        assert problem == "ok"
        return len(history.items)
    finally:
        await backend.close()


@pytest.mark.slow
def test_killed_within_every_write(tmp_path: Path) -> None:
    library = _library()
    if library is None:
        pytest.skip("Python has its SQLite within, where no system call can be replaced")
    program = [sys.executable, "-m", "tests.adapters.sqlite.killing", str(tmp_path), library]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    last, status = map(int, done.stdout.split())
    assert status == 0, done.stderr
    assert last > 60
    lost = 0
    for number in range(1, last + 1):
        lines = (tmp_path / f"{number}.receipts").read_text().splitlines()
        receipts = [json.loads(line) for line in lines]
        if (tmp_path / f"{number}.db").exists():
            asyncio.run(_check(f"sqlite:///{tmp_path}/{number}.db", receipts))
        else:
            assert not receipts
        lost += len(script()) // 2 - len(receipts)
    assert lost > 0


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_power_is_lost(tmp_path: Path, synchronous: str) -> None:
    """With FULL nothing that had a receipt is lost; with NORMAL the file has an earlier state."""
    library = _library()
    if library is None:
        pytest.skip("Python has its SQLite within, where no system call can be replaced")
    program = [sys.executable, "-m", "tests.adapters.sqlite.power"]
    subprocess.run([*program, str(tmp_path), library, synchronous], check=True)
    seen: set[int] = set()
    lost = 0
    for number, (files, receipts, what) in enumerate(states(tmp_path / "log", seed=1)):
        key = hash((synchronous == "FULL" and len(receipts), repr(files)))
        if key in seen or (what == "some" and number % 4):
            continue
        seen.add(key)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        url = f"sqlite:///{folder}/chat.db?synchronous={synchronous}"
        found = asyncio.run(_check(url, receipts if synchronous == "FULL" else []))
        lost += found < len(_texts(len(receipts)))
    assert len(seen) > 50
    assert (lost > 0) is (synchronous == "NORMAL")
