"""Opens the backend that a command reads from or writes to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import msgspec

import tokenwire
from tokenwire import Sink
from tokenwire_adapters._tools.cli.backends import is_gateway, named_url, shown
from tokenwire_adapters._tools.cli.errors import Failure

__all__ = ["add_where", "open_store", "print_json", "split_where"]

_URL_HELP = (
    "a backend that processes share (redis://…, sqlite:///…, ably://…); default: $TOKENWIRE_URL"
)


def split_where(
    where: Sequence[str], usage: str, names: Sequence[str], *, optional: int = 0
) -> tuple[str, list[str | None]]:
    """Split positional arguments into the URL, which may be left out, and what follows.

    :param names: what follows, for messages.
    :param optional: how many of `names`, from the last one, may be left out.
    :return: the URL, and a value, or None, for each of `names`.
    :raises Failure: when there are too few, or too many.
    """
    values: list[str | None] = list(where)
    url = values.pop(0) if where and "://" in where[0] else None
    missing = len(names) - len(values)
    if missing < 0:
        raise Failure(f"too many arguments; usage: {usage}", status=2)
    if missing > optional:
        raise Failure(f"name the {names[len(values)]}, too; usage: {usage}", status=2)
    return named_url(url), values + [None] * missing


def open_store(url: str, command: str) -> Sink:
    """Open a sink on a backend that other processes share.

    :raises Failure: when it is a gateway's, or this process's own memory.
    """
    if is_gateway(url):
        raise Failure(
            f"`tokenwire {command}` works on a backend (redis://…), and {shown(url)} is a gateway",
            status=2,
        )
    if url.startswith("memory:"):
        raise Failure(
            "memory:// lives inside the process that writes it: give the URL of a backend that"
            " processes share (redis://…), or set $TOKENWIRE_URL",
            status=2,
        )
    return tokenwire.open_sink(url, strict=True)


def print_json(value: Any, out: TextIO | None = None) -> None:
    """Print a value as one line of JSON, by default on stdout."""
    (out or sys.stdout).write(msgspec.json.encode(value).decode() + "\n")


def add_where(parser: argparse.ArgumentParser, rest: str) -> None:
    """Add the positional arguments: a URL that may be left out, and `rest`."""
    parser.add_argument("where", nargs="*", metavar=f"[URL] {rest}".strip(), help=_URL_HELP)
