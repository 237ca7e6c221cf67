"""A program that writes to a file by the script of `killing`, and records what the disk is asked.

python power.py FOLDER LIBRARY SYNCHRONOUS: FOLDER/log has one JSON a line, in order: what was
written to which file and where, what was cut or removed, which file was synchronised, and which
receipts there were. `states` makes of it what a disk may have when its power is lost.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.adapters.sqlite.killing import Vfs, write

_FILE, _INT, _LONG = ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int64
# Names are passed on as pointers, since SQLite keeps them.
_OPEN = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, ctypes.c_void_p, _FILE, _INT, ctypes.POINTER(_INT))
_DELETE = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, ctypes.c_void_p, _INT)
_WRITE = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, ctypes.c_void_p, _INT, _LONG)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, _LONG)
_SYNC = ctypes.CFUNCTYPE(_INT, ctypes.c_void_p, _INT)
# Of `struct sqlite3_io_methods` (https://sqlite.org/c3ref/io_methods.html): its version, 18 calls.
_METHODS, _XWRITE, _XTRUNCATE, _XSYNC = ctypes.c_void_p * 19, 3, 4, 5
_XOPEN, _XDELETE = 0, 1  # of `struct sqlite3_vfs`


class Recorder:
    """Stands between SQLite and its VFS."""

    def __init__(self, library: str) -> None:
        self.log: list[list[Any]] = []
        self._kept: list[object] = []
        lib = ctypes.CDLL(library)
        lib.sqlite3_vfs_find.restype = ctypes.POINTER(Vfs)
        methods = lib.sqlite3_vfs_find(None).contents.methods
        opening, deleting = _OPEN(methods[_XOPEN]), _DELETE(methods[_XDELETE])

        def open_(vfs, name, file, flags, out):
            status = opening(vfs, name, file, flags, out)
            if status == 0 and name:
                self._replace(_base(name), file)
            return status

        def delete(vfs, name, sync):
            self.log.append(["delete", _base(name)])
            return deleting(vfs, name, sync)

        methods[_XOPEN] = self._pointer(_OPEN(open_))
        methods[_XDELETE] = self._pointer(_DELETE(delete))

    def _pointer(self, function: Any) -> Any:
        self._kept.append(function)
        return ctypes.cast(function, ctypes.c_void_p)

    def _replace(self, name: str, file: Any) -> None:
        methods = _METHODS.from_buffer_copy(ctypes.cast(file[0], ctypes.POINTER(_METHODS)).contents)
        writing, cutting = _WRITE(methods[_XWRITE]), _TRUNCATE(methods[_XTRUNCATE])
        syncing, log = _SYNC(methods[_XSYNC]), self.log

        def write_(file, data, size, offset):
            log.append(["write", name, offset, ctypes.string_at(data, size).hex()])
            return writing(file, data, size, offset)

        def truncate(file, size):
            log.append(["truncate", name, size])
            return cutting(file, size)

        def sync(file, flags):
            status = syncing(file, flags)
            log.append(["sync", name])
            return status

        methods[_XWRITE] = self._pointer(_WRITE(write_))
        methods[_XTRUNCATE] = self._pointer(_TRUNCATE(truncate))
        methods[_XSYNC] = self._pointer(_SYNC(sync))
        self._kept.append(methods)
        file[0] = ctypes.addressof(methods)


def _base(name: int) -> str:
    return Path(ctypes.string_at(name).decode()).name


def main(folder: Path, library: str, synchronous: str) -> None:
    recorder = Recorder(library)
    url = f"sqlite:///{folder}/chat.db?synchronous={synchronous}"
    asyncio.run(write(url, lambda cursors: recorder.log.append(["receipts", cursors])))
    (folder / "log").write_text("\n".join(map(json.dumps, recorder.log)))


Files = dict[str, bytearray]


def states(log: Path, seed: int) -> Iterator[tuple[Files, list[list[str]], str]]:
    """What may be on a disk that lost its power after each operation.

    What was not synchronised is there, or not, write by write: all of it is lost, or a random part.

    :return: the contents of the files, the receipts that there were, and what was lost.
    """
    chance = random.Random(seed)
    synced: Files = {}
    pending: list[list[Any]] = []
    receipts: list[list[str]] = []
    for line in log.read_text().splitlines():
        operation = json.loads(line)
        match operation[0]:
            case "receipts":
                receipts = [*receipts, operation[1]]
            case "sync":
                _apply(synced, [one for one in pending if one[1] == operation[1]])
                pending = [one for one in pending if one[1] != operation[1]]
            case "delete":
                synced.pop(operation[1], None)
                pending = [one for one in pending if one[1] != operation[1]]
            case _:
                pending.append(operation)
        if operation[0] in ("receipts", "sync", "delete"):
            yield _copied(synced), receipts, "all"
        some = _copied(synced)
        _apply(some, [one for one in pending if chance.random() < 0.5])
        yield some, receipts, "some"


def _copied(files: Files) -> Files:
    return {name: bytearray(content) for name, content in files.items()}


def _apply(files: Files, operations: list[list[Any]]) -> None:
    for kind, name, place, *data in operations:
        content = files.setdefault(name, bytearray())
        if kind == "truncate":
            del content[place:]
            continue
        piece = bytes.fromhex(data[0])
        content.extend(bytes(max(0, place - len(content))))
        content[place : place + len(piece)] = piece


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
