"""The database file: how it is opened, its schema, and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import stat
from collections.abc import Generator
from typing import Any

from tokenwire.errors import BackendError, BackendMisconfigured, BackendUnavailable
from tokenwire_adapters._backends.sqlite.options import Settings

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "describe",
    "give_back",
    "is_busy",
    "open_database",
    "transaction",
    "translate",
]

APPLICATION_ID = 0x746B7772  # "tkwr": what the file is, also for file(1)
_OLDEST_SQLITE = (3, 35)  # RETURNING
_NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb2",
    "smb3",
    "smbfs",
    "afs",
    "ceph",
    "fuse.sshfs",
    "fuse.s3fs",
)

# Numbers of events are microseconds since 1970, raised where two would be equal: they sort as the
# log does, say how old a row is, and are never used again, even where a backup was put back.
MIGRATIONS = (
    """
CREATE TABLE meta (
  epoch TEXT NOT NULL,             -- names the log: cursors begin with it
  inode INTEGER NOT NULL,          -- of the file; a copy has another one, and becomes another log
  floor INTEGER NOT NULL           -- numbers up to here may be those of channels that were removed
);
CREATE TABLE channels (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  head INTEGER NOT NULL,           -- the number of the last event
  tail INTEGER NOT NULL,           -- cursors from here on can be continued event by event
  events INTEGER NOT NULL,         -- of producers, after the tail
  event_bytes INTEGER NOT NULL,
  singles INTEGER NOT NULL,        -- events of nobody in particular, which are kept longer
  ended INTEGER NOT NULL,          -- responses that have ended
  ended_bytes INTEGER NOT NULL     -- their text
);
CREATE TABLE log (                 -- one row for each entry that was published
  channel INTEGER NOT NULL,
  last INTEGER NOT NULL,           -- the number of its last event
  count INTEGER NOT NULL,          -- of events
  kind INTEGER NOT NULL,           -- 0: of a producer; 1: of anybody; 2: a cancel or an input
  response TEXT,                   -- the id of the response that the events are of
  key TEXT,                        -- recognises a retry, where the kind is not 0
  state TEXT,                      -- the state in which a cancel found its response, if it did
  events BLOB NOT NULL,            -- a msgpack array
  PRIMARY KEY (channel, last)
) WITHOUT ROWID;
CREATE INDEX singles ON log (channel, last) WHERE kind > 0;
CREATE INDEX requests ON log (channel, last) WHERE kind = 2;
CREATE UNIQUE INDEX retries ON log (channel, key) WHERE key IS NOT NULL;
CREATE TABLE responses (
  number INTEGER PRIMARY KEY,
  channel INTEGER NOT NULL,
  id TEXT NOT NULL,
  first INTEGER NOT NULL,          -- the numbers of its first and its last event
  last INTEGER NOT NULL,
  state TEXT NOT NULL,
  fence TEXT,
  seq INTEGER NOT NULL,
  ttl INTEGER NOT NULL,            -- of the lease, in microseconds
  lease INTEGER NOT NULL,          -- when it runs out
  cancel BLOB,                     -- the event, while its producer has not ended the response
  folded INTEGER NOT NULL,         -- the number up to which `bodies` has it; the rest is in the log
  unfolded INTEGER NOT NULL,       -- bytes of it that are in the log only
  size INTEGER NOT NULL,           -- code points
  UNIQUE (channel, id)
);
CREATE INDEX started ON responses (channel, first);
CREATE INDEX streaming ON responses (channel) WHERE state = 'streaming';
CREATE INDEX ended ON responses (channel, last) WHERE state <> 'streaming';
CREATE INDEX oldest ON responses (last) WHERE state <> 'streaming';
CREATE TABLE bodies (              -- responses as snapshots, apart since they are long
  response INTEGER PRIMARY KEY,
  snapshot BLOB NOT NULL
);
""",
    """
CREATE TABLE retentions (          -- of channels that have one of their own, by name
  channel TEXT PRIMARY KEY,        -- there may be none of this name yet
  responses INTEGER NOT NULL,
  age REAL,                        -- in seconds; NULL: no limit
  bytes INTEGER NOT NULL,
  events INTEGER NOT NULL,
  event_bytes INTEGER NOT NULL
) WITHOUT ROWID;
""",
)
"""What brings a file from each schema version (`PRAGMA user_version`) to the next one."""


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, mode: str = "IMMEDIATE") -> Generator[None]:
    """Run the block in a transaction: with the write lock, or ``DEFERRED`` to read one state."""
    db.execute(f"BEGIN {mode}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def open_database(settings: Settings) -> tuple[sqlite3.Connection, str]:
    """Open the file, creating it if need be; return the connection and the epoch of its log.

    :raises BackendMisconfigured: when it cannot be used as it is; the message says what to do.
    :raises sqlite3.Error: when SQLite cannot do it.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise BackendMisconfigured(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 is needed")
    path = settings.path
    _check_place(path)
    with contextlib.suppress(FileExistsError):
        # SQLite would make it readable by others; its other files take the mode of this one.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        version = _schema_version(db, path)
        if version == 0:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise BackendMisconfigured(f"SQLite cannot share {path} between processes there")
        db.execute(f"PRAGMA synchronous = {'FULL' if settings.synchronous == 'FULL' else 'NORMAL'}")
        db.execute("PRAGMA journal_size_limit = 16777216")
        db.execute("PRAGMA trusted_schema = OFF")
        # What is removed from a page is overwritten there. Pages that are free as a whole keep
        # what they had (overwriting them costs writes), until they are used or given back.
        db.execute("PRAGMA secure_delete = FAST")
        inode = os.stat(path).st_ino & (2**63 - 1)
        if version < len(MIGRATIONS):
            _migrate(db, inode)
        return db, _epoch(db, inode)
    except BaseException:
        db.close()
        raise


def _check_place(path: str) -> None:
    folder = os.path.dirname(path)
    try:
        is_there = stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    if not is_there:
        raise BackendUnavailable(  # it may come back, as a disk that is mounted again does
            f"there is no directory {folder}: make it, and mind that an absolute path"
            " follows four slashes, as in sqlite:////srv/chat.db"
        )
    if os.path.isdir(path):
        raise BackendMisconfigured(f"{path} is a directory: name a file in it")
    kind = _file_system(os.path.realpath(path))
    if kind in _NETWORK:
        raise BackendMisconfigured(
            f"{path} is on a network file system ({kind}), where SQLite cannot share a file"
            " between processes: use a local disk, or Redis"
        )


def _file_system(path: str) -> str:
    """The type of the file system that `path` is on; empty where Linux does not say."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            mounts = [line.split(" - ", 1) for line in lines]
    except OSError:
        return ""
    best, kind = "", ""
    for left, right in mounts:
        point = left.split(" ")[4].encode(errors="surrogateescape").decode("unicode_escape")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ", 1)[0]
    return kind


def _schema_version(db: sqlite3.Connection, path: str) -> int:
    """The schema version of a file that is ours, or empty.

    :raises BackendMisconfigured: when it is another program's, or of a later release.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise BackendMisconfigured(f"{path} is the database of another program: name another file")
    if version > len(MIGRATIONS):
        raise BackendMisconfigured(
            f"{path} was written by a later release of tokenwire (schema {version}, this one"
            f" knows {len(MIGRATIONS)}): upgrade this process"
        )
    return int(version)


def _migrate(db: sqlite3.Connection, inode: int) -> None:
    with transaction(db):
        (version,) = db.execute("PRAGMA user_version").fetchone()  # others may have been faster
        for number in range(version, len(MIGRATIONS)):
            for statement in MIGRATIONS[number].split(";\n"):
                db.execute(statement)
        if version == 0:
            epoch = secrets.token_hex(4)
            db.execute("INSERT INTO meta VALUES (?, ?, 0)", (epoch, inode))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _epoch(db: sqlite3.Connection, inode: int) -> str:
    """The epoch of the log; a new one where the file is a copy, which now goes its own way."""
    epoch, known = db.execute("SELECT epoch, inode FROM meta").fetchone()
    if known != inode:
        with transaction(db):
            db.execute(
                "UPDATE meta SET epoch = ?, inode = ? WHERE inode <> ?",
                (secrets.token_hex(4), inode, inode),
            )
            (epoch,) = db.execute("SELECT epoch FROM meta").fetchone()
    return str(epoch)


def give_back(db: sqlite3.Connection, pages: int) -> None:
    """Give unused pages back to the file system, up to so many."""
    # A script runs to its end; before Python 3.12, `execute` took one step, which is one page.
    db.executescript(f"PRAGMA incremental_vacuum({pages})")


def describe(db: sqlite3.Connection) -> dict[str, Any]:
    """What `tokenwire doctor` prints of a file.

    :raises sqlite3.DatabaseError: when it is damaged.
    """
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page,) = db.execute("PRAGMA page_size").fetchone()
    (result,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise BackendMisconfigured(f"the file is damaged: put a backup in its place ({result})")
    return {"SQLite": sqlite3.sqlite_version, "size": f"{pages * page / 2**20:.1f} MiB"}


# -- errors


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection has a lock, so that trying again soon is right."""
    return _code(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _code(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", None) or "")


_MEANINGS = (
    ("SQLITE_BUSY", BackendUnavailable, "{path} is locked by another process"),
    ("SQLITE_FULL", BackendUnavailable, "no space is left for {path}"),
    ("SQLITE_READONLY", BackendMisconfigured, "{path} or its directory cannot be written to"),
    ("SQLITE_PERM", BackendMisconfigured, "{path} may not be opened"),
    ("SQLITE_CANTOPEN", BackendMisconfigured, "{path} cannot be opened"),
    ("SQLITE_NOTADB", BackendMisconfigured, "{path} is no SQLite database: name another file"),
    ("SQLITE_CORRUPT", BackendMisconfigured, "{path} is damaged: put a backup in its place"),
)


def translate(error: BaseException, path: str) -> BackendError:
    """The error of this package for one of SQLite or of the operating system."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, PermissionError):
        return BackendMisconfigured(f"{path} or its directory may not be used: {error.strerror}")
    if isinstance(error, sqlite3.Error):
        code = _code(error)
        for prefix, kind, text in _MEANINGS:
            if code.startswith(prefix):
                return kind(f"{text.format(path=path)} ({error})")
    return BackendUnavailable(f"{path} cannot be used: {type(error).__name__}: {error}")
