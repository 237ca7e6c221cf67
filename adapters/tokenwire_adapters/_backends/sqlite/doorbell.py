"""Wakes the processes that listen to a file: a datagram socket each, in a directory beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import socket
import stat
import zlib
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

__all__ = ["Doorbell", "topic_of"]

_NAME = re.compile(r"([0-9]+-[0-9a-f]{8})(?:-([0-9a-f]{32}))?", re.ASCII)
_GROUPS = 128  # of topics; a name has a bit for each
_MAX_TOPICS = 1024  # in one datagram
_MAX_ADDRESS = 100  # bytes; Linux takes 107, macOS 103


def topic_of(channel: str, *, control: bool) -> bytes:
    """Names a channel's events, or its cancels and inputs; two may rarely have the same name."""
    return zlib.crc32(f"{int(control)}{channel}".encode()).to_bytes(4)


class Doorbell:
    """Rings the listeners of a file, and is one of them.

    A socket's name says which groups of topics its owner listens to, so that the others' bells do
    not wake it. What a datagram says is no more than where news may be, so that lost, repeated and
    forged ones do no harm. Where there are no such sockets, nobody is rung, and listeners look by
    themselves.

    :param path: of the database file.
    """

    def __init__(self, path: str) -> None:
        self._folder = f"{os.path.realpath(path)}-bells"
        self._listener = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._groups = 0
        self._listening: socket.socket | None = None
        self._sending: socket.socket | None = None
        # By listener: topics that did not fit into its queue.
        self._owed: dict[str, AbstractSet[bytes]] = {}
        self._descriptor: int | None = None

    # -- listening, on the I/O loop

    def listen(self, on_bell: Callable[[AbstractSet[bytes]], None]) -> bool:
        """Call `on_bell`, with topics, whenever somebody rings; False where that cannot be."""
        if not hasattr(socket, "AF_UNIX"):
            return False
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bell.setblocking(False)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._folder, 0o700)
            bell.bind(self._address(self._name))
            asyncio.get_running_loop().add_reader(bell, _receive, bell, on_bell)
        except (OSError, NotImplementedError):
            bell.close()
            return False
        self._listening = bell
        return True

    @property
    def _name(self) -> str:
        return f"{self._listener}-{self._groups:032x}"

    def listens_to(self, topic: bytes) -> bool:
        """Whether others ring this socket for a topic."""
        return bool(self._groups & _group_of(topic))

    def listen_to(self, topics: Iterable[bytes]) -> bool:
        """Be rung for these topics, and few others.

        :return: whether the socket has another name now: news may be where they were before, for
            which a bell went to the old name.
        """
        old, before = self._name, self._groups
        self._groups = _groups_of(topics)
        if self._groups == before:
            return False
        if self._listening is not None:
            with contextlib.suppress(OSError):  # see `is_there`
                os.rename(os.path.join(self._folder, old), os.path.join(self._folder, self._name))
        return True

    @property
    def is_there(self) -> bool:
        """Whether other processes still find this socket under its name."""
        return os.path.exists(os.path.join(self._folder, self._name))

    def close(self) -> None:
        """Stop listening."""
        bell, self._listening = self._listening, None
        if bell is not None:
            asyncio.get_running_loop().remove_reader(bell)
            bell.close()
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, self._name))
        self.abandon()

    def abandon(self) -> None:
        """Close what is open, and leave the rest: to the parent, in a forked child."""
        for opened in (self._listening, self._sending):
            if opened is not None:
                opened.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._listening = self._sending = self._descriptor = None

    # -- ringing, on the thread of the writer

    def ring(self, topics: AbstractSet[bytes]) -> bool:
        """Notify the listeners of topics; retry those whose queues were full before.

        :return: whether a listener still has to be notified.
        """
        owed, self._owed = self._owed, {}
        try:
            names = os.listdir(self._folder)
        except OSError:
            return False  # nobody has ever listened
        rung = _groups_of(topics)
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            listener = match[1]
            due = owed.get(listener, frozenset[bytes]())
            if match[2] is None or rung & int(match[2], 16):  # None: a process of release 0.2.0
                due |= topics
            if due and not self._send(name, due):
                self._owed[listener] = due
        return bool(self._owed)

    def _send(self, name: str, topics: AbstractSet[bytes]) -> bool:
        """Ring one listener; False where its queue is full."""
        if self._sending is None:
            self._sending = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sending.setblocking(False)
        # An empty datagram means all topics.
        payload = b"".join(topics) if len(topics) <= _MAX_TOPICS else b""
        try:
            self._sending.sendto(payload, self._address(name))
        except ConnectionRefusedError:
            self._remove(name)
        except BlockingIOError:
            return False
        except OSError:
            pass  # gone, renamed, or another user's: they look by themselves
        return True

    def _remove(self, name: str) -> None:
        """Remove the socket of a process that died."""
        path = os.path.join(self._folder, name)
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)

    def _address(self, name: str) -> str:
        path = os.path.join(self._folder, name)
        if len(os.fsencode(path)) <= _MAX_ADDRESS:
            return path
        if self._descriptor is None:  # Linux has a shorter way to name a directory
            self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._descriptor}/{name}"


def _group_of(topic: bytes) -> int:
    return 1 << int.from_bytes(topic) % _GROUPS


def _groups_of(topics: Iterable[bytes]) -> int:
    groups = 0
    for topic in topics:
        groups |= _group_of(topic)
    return groups


def _receive(bell: socket.socket, on_bell: Callable[[AbstractSet[bytes]], None]) -> None:
    topics: set[bytes] = set()
    with contextlib.suppress(OSError):  # there is no more
        while True:
            payload = bell.recv(65536)
            topics.update(payload[at : at + 4] for at in range(0, len(payload), 4))
            if not payload:
                topics.add(b"")
    on_bell(topics)
