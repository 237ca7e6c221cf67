"""What an adapter says about its SDK: the classes to patch, and how to tell requests apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tokenwire.instrument import Options, Recorder

__all__ = ["Classifier", "PatchTargets", "RecorderFactory"]


RecorderFactory: TypeAlias = Callable[[Options, Mapping[str, Any] | None], Recorder]
"""Makes the recorder of a request: of the options, and of the request's JSON body."""


def _by_no_response(*_: object) -> None:
    return None


@dataclass(frozen=True)
class Classifier:
    """How an SDK's requests and chunks are told apart.

    :ivar by_request: the recorder for a request, by its method and path; None for what carries no
        reply of a model.
    :ivar by_item: the recorder for a stream, by its first item.
    :ivar by_response: the recorder for a request about a reply that an earlier one asked for; by
        options, method, path, and host and port of the server.
    """

    by_request: Callable[[str, str], RecorderFactory | None]
    by_item: Callable[[Any], RecorderFactory | None]
    by_response: Callable[[Options, str, str, str], Recorder | None] = _by_no_response


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
