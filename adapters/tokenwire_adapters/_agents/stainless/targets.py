"""What an adapter says about its SDK: the classes to patch, and how to tell requests apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenwire.instrument import Recorder

__all__ = ["Classifier", "PatchTargets"]


@dataclass(frozen=True)
class Classifier:
    """How an SDK's requests and chunks are told apart.

    :ivar by_request: the recorder for a request, by its method and path; None for what carries no
        reply of a model.
    :ivar by_item: the recorder for a stream, by its first item.
    """

    by_request: Callable[[str, str], type[Recorder] | None]
    by_item: Callable[[Any], type[Recorder] | None]


@dataclass(frozen=True)
class PatchTargets:
    """The classes of an SDK that are patched.

    :ivar clients: those with ``request``: sync, async.
    :ivar streams: those with ``__stream__`` and ``close``: sync, async.
    :ivar closers: further classes with ``close``: the class, the attribute that holds the HTTP
        response, and whether it is async.
    :ivar helpers: classes with ``__stream__`` that read a stream: what is entered after
        ``.stream()``.
    :ivar managers: classes that ``.stream()`` returns, which send the request in ``__enter__`` or
        ``__aenter__`` and give a helper.
    :ivar end_mark: how the data of the event begins with which a stream says that it is over; None
        where the API has none.
    :ivar parsers: classes of raw responses with ``parse``, and whether that is async.
    """

    clients: tuple[type, type]
    streams: tuple[type, type]
    closers: tuple[tuple[type, str, bool], ...] = ()
    helpers: tuple[type, ...] = ()
    managers: tuple[type, ...] = ()
    parsers: tuple[tuple[type, bool], ...] = ()
    end_mark: str | None = None
