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

__all__ = ["add_url", "add_where", "open_store", "print_json", "split_where", "take_url", "url_of"]

_URL_HELP = (
    "a backend that processes share (redis://…, sqlite:///…, ably://…); default: $TOKENWIRE_URL"
)


def split_where(
    args: argparse.Namespace, names: Sequence[str], *, optional: int = 0
) -> tuple[str, list[str | None]]:
    """Split positional arguments into the URL, which may be left out, and what follows.

    :param args: what a parser with `add_where`, and a usage, has read.
    :param names: what follows, for messages.
    :param optional: how many of `names`, from the last one, may be left out.
    :return: the URL, and a value, or None, for each of `names`.
    :raises Failure: when there are too few, or too many.
    """
    channel: str | None = args.channel if "channel" in names else None
    values = take_url(args, most=len(names) - (channel is not None))
    if channel is not None:
        values.insert(names.index("channel"), channel)
    missing = len(names) - len(values)
    if missing < 0:
        raise Failure(f"too many arguments; usage: {args.usage}", status=2)
    if missing > optional:
        raise Failure(f"name the {names[len(values)]}, too; usage: {args.usage}", status=2)
    return named_url(url_of(args)), [*values, *[None] * missing]


def take_url(args: argparse.Namespace, *, most: int | None = None) -> list[str]:
    """Move the URL, where the positional arguments begin with one, to where `url_of` reads it.

    :param most: how many may follow it, if there is a bound: where ``--to`` gives the URL, a first
        one that looks like another may be what follows, such as a text.
    :return: the other positional arguments.
    """
    values: list[str] = list(args.where)
    if values and "://" in values[0]:
        follows = args.named_url is not None and most is not None and len(values) <= most
        if not follows:
            args.url = values.pop(0)
    return values


def url_of(args: argparse.Namespace) -> str | None:
    """The URL given, as a positional argument or by ``--to``.

    :raises Failure: when there are both.
    """
    url: str | None = args.url
    if url is not None and args.named_url is not None:
        raise Failure("give the URL once: by itself, or with --to", status=2)
    return args.named_url if url is None else url


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


def add_where(
    parser: argparse.ArgumentParser, rest: str, *, url_help: str = _URL_HELP, to: bool = True
) -> None:
    """Add the positional arguments: a URL that may be left out, and `rest`; and their options.

    :param to: whether ``--to`` is another way to give the URL.
    """
    parser.add_argument("where", nargs="*", metavar=f"[URL] {rest}".strip(), help=url_help)
    parser.set_defaults(url=None, named_url=None, channel=None, usage=parser.usage)
    if to:
        _add_to(parser)
    if "CHANNEL" in rest:
        parser.add_argument("--channel", metavar="NAME", help="the channel, as an option")


def add_url(parser: argparse.ArgumentParser, url_help: str) -> None:
    """Add a URL that may be left out, and the option for it; `url_of` reads them."""
    parser.add_argument("url", nargs="?", metavar="URL", help=url_help)
    _add_to(parser)


def _add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", dest="named_url", metavar="URL", help="the URL, as an option")
