"""``tokenwire channels`` and ``tokenwire history``: what a backend has."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from tokenwire import ChannelInfo, Page, Response
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.printer import Printer
from tokenwire_adapters._tools.cli.stores import add_where, open_store, print_json, split_where
from tokenwire_adapters._tools.cli.terminal import colours, is_rich, progress, show_table

__all__ = ["channels", "channels_parser", "history", "history_parser"]


def channels_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "channels",
        description="List the channels of a backend.",
        usage="tokenwire channels [URL] [--prefix TEXT] [--json]",
    )
    add_where(parser, "")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="only names that begin so")
    parser.add_argument("--json", action="store_true", help="one channel a line, as JSON")
    return parser


def channels(argv: Sequence[str]) -> int:
    """List channels, the one that was last written to first; return 0."""
    args = channels_parser().parse_intermixed_args(argv)
    url, _ = split_where(args, ())
    with open_store(url, "channels") as sink:
        if args.json:
            for channel in sink.list_channels(args.prefix):
                print_json(channel)
            return 0
        listed: list[ChannelInfo] = []
        with progress("reading channels") as advance:
            for channel in sink.list_channels(args.prefix):
                listed.append(channel)
                advance(1)
    listed.sort(key=lambda channel: channel.active_at or 0, reverse=True)
    rows = [
        (c.name, _number(c.responses), _number(c.streaming), _time(c.active_at)) for c in listed
    ]
    show_table(("channel", "responses", "streaming", "last active"), rows, sys.stdout)
    return 0


def history_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "history",
        description="Show the responses of a channel, newest first.",
        usage="tokenwire history [URL] CHANNEL [--limit N] [--full] [--json]",
    )
    add_where(parser, "CHANNEL")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="(default: 20)")
    parser.add_argument("--full", action="store_true", help="with their whole text, oldest first")
    parser.add_argument("--json", action="store_true", help="one response a line, as JSON")
    return parser


def history(argv: Sequence[str]) -> int:
    """Show the newest responses of a channel; return 0."""
    args = history_parser().parse_intermixed_args(argv)
    url, (channel,) = split_where(args, ("channel",))
    responses: list[Response] = []
    with open_store(url, "history") as sink, progress("reading responses", args.limit) as advance:
        page: Page | None = sink.history(channel or "", limit=min(args.limit, 1000))
        while page is not None:
            responses += page.items
            advance(len(page.items))
            page = page.next() if len(responses) < args.limit else None
    del responses[args.limit :]
    if args.json:
        for response in responses:
            print_json(response)
    elif args.full:
        printer = Printer(sys.stdout, colours=colours(sys.stdout))
        for response in reversed(responses):
            printer.show_response(response)
        printer.close()
    else:
        rows = [(one.id, one.state, _time(one.started_at), _beginning(one)) for one in responses]
        headings = ("response", "state", "started", "text")
        show_table(headings, rows, sys.stdout, clip_last=True)
    return 0


def _beginning(response: Response) -> str:
    text = (
        response.text
        or response.reasoning
        or ", ".join(call.name or "tool" for call in response.tool_calls)
    )
    return text if len(text) <= 60 else text[:59] + "…"


def _number(number: int | None) -> str:
    return "" if number is None else str(number)


def _time(ms: int | None) -> str:
    if ms is None:
        return ""
    moment = datetime.fromtimestamp(ms / 1000, UTC).astimezone()
    if is_rich(sys.stdout):
        moment = moment.replace(tzinfo=None)  # a reader is here; programs are told the offset
    return moment.isoformat(" ", "seconds")
