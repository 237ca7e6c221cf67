"""What an adapter tells of its SDK: the classes to listen at, and how requests are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenwire_adapters._agents.recorder import Recorder

__all__ = ["Classifier", "PatchTargets"]


@dataclass(frozen=True)
class Classifier:
    """How an SDK's requests and chunks are told apart.

    :ivar request: the tap for a request, by its method and path; None for what carries no reply.
    :ivar item: the tap for a stream, by its first item.
    """

    request: Callable[[str, str], type[Recorder] | None]
    item: Callable[[Any], type[Recorder] | None]


@dataclass(frozen=True)
class PatchTargets:
    """The classes of an SDK that are patched.

    :ivar clients: those with ``request``: sync, async.
    :ivar streams: those with ``__stream__`` and ``close``: sync, async.
    :ivar closers: further classes with ``close``: the class, the attribute that holds the HTTP
        response, and whether it is async.
    :ivar helpers: what ``.stream()`` gives: classes with ``__stream__`` that read a stream.
    :ivar parsers: classes of raw responses with ``parse``, and whether that is async.
    """

    clients: tuple[type, type]
    streams: tuple[type, type]
    closers: tuple[tuple[type, str, bool], ...] = ()
    helpers: tuple[type, ...] = ()
    parsers: tuple[tuple[type, bool], ...] = ()
