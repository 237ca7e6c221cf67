"""Ambient channel and run, as context variables, for code that names none.

Context variables follow tasks, and threads that are started with a copied context.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, overload
from uuid import UUID

from tokenwire._context import ContextBlock, current_block
from tokenwire._ids import check_name
from tokenwire._options import value_of
from tokenwire.claims import Claim, claiming, current_claim, set_claim
from tokenwire.errors import InvalidName

__all__ = [
    "DEFAULT_CHANNEL",
    "Claim",
    "ContextBlock",
    "channel",
    "claiming",
    "current_channel",
    "current_claim",
    "current_metadata",
    "current_run",
    "metadata",
    "resolve_channel",
    "run",
    "set_claim",
]

logger = logging.getLogger("tokenwire")

DEFAULT_CHANNEL = "default"
"""The channel of a response for which nothing names one, where the sink has no other default."""

_warned = False


def channel(
    name: str, *, run: str | UUID | None = None, metadata: Mapping[str, Any] | None = None
) -> ContextBlock:
    """Make `name` the channel of code in this block that names none.

    Leaving the block never raises, in whichever context and thread it happens. In a generator, sync
    or async, the block holds for the generator's own code and what that calls, also where each step
    of it runs in another context, and for nobody who reads the generator.

    :param run: makes this the current run, too.
    :param metadata: fields of every response that is begun in the block, as who asked for it; what
        a response is given itself counts before them.
    :raises InvalidName: on entering, when either cannot be a name.
    """
    return ContextBlock(name, channel=name, run=_id_of(run), metadata=metadata)


def run(run_id: str | UUID, *, metadata: Mapping[str, Any] | None = None) -> ContextBlock:
    """Let the responses begun in this block share one run. It holds where `channel` does.

    :param metadata: as that of `channel`.

    :raises InvalidName: on entering, when `run_id` cannot be an id.
    """
    name = str(run_id) if isinstance(run_id, UUID) else run_id
    return ContextBlock(name, run=name, metadata=metadata)


def metadata(**fields: Any) -> ContextBlock:
    """Give the responses begun in this block these fields of metadata; it holds as `channel` does.

    So can a client that many users share tell whose each response is.
    """
    return ContextBlock("", metadata=fields)


def _id_of(run_id: str | UUID | None) -> str | None:
    return str(run_id) if isinstance(run_id, UUID) else run_id


def current_channel() -> str | None:
    """The channel of the block that the caller is in, if one was set."""
    block = current_block()
    return None if block is None else block.channel


def current_run() -> str | None:
    """The run of the block that the caller is in, if one was set."""
    block = current_block()
    return None if block is None else block.run


def current_metadata() -> dict[str, Any]:
    """The metadata of the block that the caller is in."""
    block = current_block()
    return {} if block is None else dict(block.metadata)


@overload
def resolve_channel(
    explicit: str | Callable[[], str | None] | None = None, *, session: str | None = None
) -> str: ...
@overload
def resolve_channel(
    explicit: str | Callable[[], str | None] | None = None,
    *,
    session: str | None = None,
    default: str | None,
) -> str | None: ...
def resolve_channel(
    explicit: str | Callable[[], str | None] | None = None,
    *,
    session: str | None = None,
    default: str | None = DEFAULT_CHANNEL,
) -> str | None:
    """Find the channel for a response. Never raises.

    In this order: `explicit` (a name, or a function that gives one or None), the context's
    channel, the framework's own `session`, ``$TOKENWIRE_CHANNEL``, `default` (with one warning for
    the process). Where ``$TOKENWIRE_CHANNEL_FIRST`` is set, as ``tokenwire run --channel`` does,
    ``$TOKENWIRE_CHANNEL`` comes before the session. A name that cannot be one is passed over with
    a warning.

    :param default: the sink's `default_channel`; None where it has none, and so may be the answer.
    """
    global _warned
    for candidate in _candidates(explicit, session):
        try:
            return check_name(candidate, "channel")
        except InvalidName as error:
            logger.warning("tokenwire: %s; trying the next source of a channel name", error)
    if default is not None and not _warned:
        _warned = True
        logger.warning(
            "tokenwire: no channel named; using %r, which is everybody's. Name one with channel=,"
            " tokenwire.channel(...) or $TOKENWIRE_CHANNEL, or refuse such calls with"
            " open_sink(default_channel=None)",
            default,
        )
    return default


def _candidates(
    explicit: str | Callable[[], str | None] | None, session: str | None
) -> Iterator[Any]:
    for candidate in (value_of(explicit, "channel"), current_channel()):
        if candidate is not None and candidate != "":
            yield candidate
    environment = os.environ.get("TOKENWIRE_CHANNEL")  # slow where it is not set, so last
    first = environment if os.environ.get("TOKENWIRE_CHANNEL_FIRST") == "1" else None
    for candidate in (first, session, environment):
        if candidate is not None and candidate != "":
            yield candidate
