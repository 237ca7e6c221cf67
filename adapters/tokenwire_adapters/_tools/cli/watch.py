"""``tokenwire watch``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import tokenwire
from tokenwire.events import EndEvent, Event, SnapshotEvent, encode_json
from tokenwire.watch import parse_rewind
from tokenwire_adapters._tools.cli.backends import is_gateway
from tokenwire_adapters._tools.cli.errors import Failure
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.stores import add_where, split_where
from tokenwire_adapters._tools.cli.views import open_view

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "watch",
        description="Print the tokens of a channel as they come.",
        usage="tokenwire watch [URL] CHANNEL [--rewind 2m] [--response ID] [--once] [--json]",
    )
    add_where(
        parser,
        "CHANNEL",
        url_help="a backend (redis://…, ably://…) or a gateway (http://…/stream); default:"
        " $TOKENWIRE_URL; and the channel",
    )
    parser.add_argument(
        "--rewind", metavar="AMOUNT", help="start in the past: 30s, 2m, 50 (items) or all"
    )
    parser.add_argument("--response", metavar="ID", help="only this response, until it ends")
    parser.add_argument(
        "--once", action="store_true", help="leave when a response has ended and none is open"
    )
    parser.add_argument(
        "--plain", action="store_true", help="the text alone, also in a terminal: no live view"
    )
    parser.add_argument("--json", action="store_true", help="one event a line, as JSON")
    parser.add_argument(
        "--token-file", metavar="FILE", help="a token for the gateway (default: $TOKENWIRE_TOKEN)"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Print a channel; return 0, or 1 when the response asked for did not complete."""
    args = _parser().parse_intermixed_args(argv)
    url, (name,) = split_where(args, ("channel",))
    channel = name or ""
    if args.rewind is not None:
        parse_rewind(args.rewind)
    if url.startswith("memory:"):
        raise Failure(
            "memory:// lives inside the process that writes it: give the URL of a gateway of that"
            " process (http://…/stream), or of a backend that processes share (redis://…)",
            status=2,
        )
    with _events(url, channel, args) as events:
        return _print(events, channel, args)


@contextmanager
def _events(url: str, channel: str, args: argparse.Namespace) -> Generator[Iterator[Event]]:
    if is_gateway(url):
        from tokenwire_adapters._tools.cli import gateway_client

        yield gateway_client.events(
            url, channel, token=_token(args), rewind=args.rewind, response=args.response
        )
        return
    with (
        tokenwire.open_sink(url) as sink,
        sink.watch(channel, rewind=args.rewind, response_id=args.response) as watch,
    ):
        yield iter(watch)


def _token(args: argparse.Namespace) -> str | None:
    if args.token_file:
        with open(args.token_file, encoding="ascii") as file:
            return file.read().strip()
    return os.environ.get("TOKENWIRE_TOKEN") or None


def _print(events: Iterator[Event], channel: str, args: argparse.Namespace) -> int:
    view = None if args.json else open_view(channel, plain=args.plain)
    open_ids: set[str] = set()
    last_state = "complete"
    try:
        for event in events:
            if view is not None:
                view.show(event)
            else:
                sys.stdout.write(encode_json(event).decode() + "\n")
                sys.stdout.flush()
            state = _state_of(event)
            if event.response_id is None or state is None:
                continue
            if state == "streaming":
                open_ids.add(event.response_id)
                continue
            open_ids.discard(event.response_id)
            last_state = state
            if args.once and not open_ids:
                break
    finally:
        if view is not None:
            view.close()
    return 0 if last_state == "complete" else 1


def _state_of(event: Event) -> str | None:
    """The state of an event's response after it; None where the event does not say."""
    if isinstance(event, SnapshotEvent):
        return event.response.state
    if isinstance(event, EndEvent):
        return event.state
    return "streaming" if event.type in ("start", "delta", "part") else None
