"""A program that writes to a file by a script, and is killed at one of the writes of SQLite.

python killing.py FOLDER CHANNEL: for n from 1 on, a forked child runs the script on FOLDER/n.db and
is killed, by SIGKILL, within the n-th system call by which SQLite changes a file: half of what it
would have written is. What the child had a receipt for is in FOLDER/n.receipts, one JSON a line.
The first child that is not killed is the last.
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tokenwire.backend import Entry
from tokenwire.events import DeltaEvent, EndEvent, Event, StartEvent
from tokenwire_adapters.sqlite import SQLiteBackend

_POINTER, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_ssize_t
_CALLS = {
    b"write": ctypes.CFUNCTYPE(_SIZE, _INT, _POINTER, ctypes.c_size_t),
    b"pwrite": ctypes.CFUNCTYPE(_SIZE, _INT, _POINTER, ctypes.c_size_t, ctypes.c_int64),
    b"pwrite64": ctypes.CFUNCTYPE(_SIZE, _INT, _POINTER, ctypes.c_size_t, ctypes.c_int64),
    b"ftruncate": ctypes.CFUNCTYPE(_INT, _INT, ctypes.c_int64),
    b"fsync": ctypes.CFUNCTYPE(_INT, _INT),
    b"unlink": ctypes.CFUNCTYPE(_INT, ctypes.c_char_p),
}
_GET = ctypes.CFUNCTYPE(_POINTER, _POINTER, ctypes.c_char_p)
_SET = ctypes.CFUNCTYPE(_INT, _POINTER, ctypes.c_char_p, _POINTER)


class Vfs(ctypes.Structure):
    """`struct sqlite3_vfs`, version 3 (https://sqlite.org/c3ref/vfs.html)."""

    _fields_ = [
        ("version", _INT),
        ("file_size", _INT),
        ("max_path", _INT),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("methods", _POINTER * 13),
        ("set_call", _SET),
        ("get_call", _GET),
        ("next_call", _POINTER),
    ]


class Killer:
    """Replaces the system calls of SQLite's VFS by ones that count."""

    def __init__(self, library: str, last: int) -> None:
        self._left = last
        self._kept: list[object] = []
        lib = ctypes.CDLL(library)
        lib.sqlite3_vfs_find.restype = ctypes.POINTER(Vfs)
        vfs = lib.sqlite3_vfs_find(None)
        for name, kind in _CALLS.items():
            address = vfs.contents.get_call(vfs, name)
            if address:
                replacement = kind(self._counting(name, kind(address)))
                self._kept.append(replacement)
                vfs.contents.set_call(vfs, name, ctypes.cast(replacement, _POINTER))

    def _counting(self, name, original):
        def call(*args):
            self._left -= 1
            if self._left == 0:
                if name.startswith((b"write", b"pwrite")):
                    original(args[0], args[1], args[2] // 2, *args[3:])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args)

        return call


def script() -> list[Entry]:
    """Three responses that take turns: one ends early, one has a long text, one streams on."""
    entries: list[Entry] = []
    seqs: dict[str, int] = {}
    offsets: dict[str, int] = {}

    def add(name: str, *events: Event) -> None:
        seqs[name] = seqs.get(name, 0) + 1
        entries.append(
            Entry(
                channel="c",
                events=events,
                response_id=name,
                fence=f"f{name}",
                seq=seqs[name],
                lease=0.001,
            )
        )

    def delta(name: str, text: str) -> DeltaEvent:
        offset = offsets.get(name, 0)
        offsets[name] = offset + len(text)
        return DeltaEvent(response_id=name, part=0, kind="text", offset=offset, text=text)

    for name in "abc":
        add(name, StartEvent(response_id=name), delta(name, f"{name} begins. "))
    for step in range(6):
        add("a", delta("a", f"{step} naïve "))
        add("b", delta("b", f"{step} " + "long " * 800))
        add("c", delta("c", f"{step} 東京 "))
    add("a", EndEvent(response_id="a", state="complete"))
    add("b", delta("b", "and done."), EndEvent(response_id="b", state="complete"))
    return entries


async def write(url: str, on_receipts: Callable[[list[str | None]], object]) -> None:
    """Write the script, and say which cursors each transaction got."""
    backend = SQLiteBackend(url, event_age=0.0)
    await backend._writing.run(lambda file: file.db.execute("PRAGMA wal_autocheckpoint = 8"))
    entries = script()
    for at in range(0, len(entries), 2):  # two in a transaction
        outcomes = await backend.publish(entries[at : at + 2])
        assert all(outcome.error is None for outcome in outcomes), outcomes
        on_receipts([outcome.cursor for outcome in outcomes])
    await backend.close()


def _note(file: int, cursors: list[str | None]) -> None:
    os.write(file, json.dumps(cursors).encode() + b"\n")


def main(folder: Path, library: str) -> None:
    for number in range(1, 10_000):
        receipts = os.open(folder / f"{number}.receipts", os.O_CREAT | os.O_WRONLY, 0o600)
        child = os.fork()
        if child == 0:
            killer = Killer(library, number)
            note = partial(_note, receipts)
            asyncio.run(write(f"sqlite:///{folder}/{number}.db", note))
            del killer
            os._exit(0)
        os.close(receipts)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != -signal.SIGKILL:
            print(number, status)
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
