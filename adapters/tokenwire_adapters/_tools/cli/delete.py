"""``tokenwire delete``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tokenwire import Deleted, Sink
from tokenwire_adapters._tools.cli.errors import Failure
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.stores import add_where, open_store, print_json, split_where
from tokenwire_adapters._tools.cli.terminal import progress

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "delete",
        description="Delete a channel, responses of it, or a user's data, for good. What is"
        " streaming is cancelled first.",
        usage="tokenwire delete [URL] CHANNEL [--response ID] | --user NAME [--yes] [--json]",
    )
    add_where(parser, "[CHANNEL]")
    parser.add_argument(
        "--response", action="append", default=[], metavar="ID", help="may be repeated"
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="responses whose metadata has this user, and inputs that they sent, in all channels"
        " or in the one given",
    )
    parser.add_argument("--key", default="user", help="the user's field in metadata")
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="for what is streaming to stop (default: 10)",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print what was deleted as JSON")
    return parser


def main(argv: Sequence[str]) -> int:
    """Delete; return 0, or 1 when a response to be deleted was not there."""
    args = _parser().parse_intermixed_args(argv)
    url, (channel,) = split_where(args, ("channel",), optional=1 if args.user is not None else 0)
    if args.user is not None and args.response:
        raise Failure("give --response or --user, not both", status=2)
    with open_store(url, "delete") as sink:
        _confirm(args, channel)
        with progress("deleting"):
            deleted = _delete(sink, channel, args)
    if args.json:
        print_json({"responses": deleted.responses, "events": deleted.events})
    else:
        print(f"deleted: {deleted.responses} responses, {deleted.events} other events")
    return 1 if deleted.responses < len(args.response) else 0


def _delete(sink: Sink, channel: str | None, args: argparse.Namespace) -> Deleted:
    if args.user is not None:
        channels = None if channel is None else [channel]
        return sink.delete_user(args.user, channels=channels, key=args.key, timeout=args.timeout)
    if not args.response:
        return sink.delete_channel(channel or "", timeout=args.timeout)
    count = sum(
        sink.delete_response(channel or "", one, timeout=args.timeout) for one in args.response
    )
    return Deleted(responses=count)


def _confirm(args: argparse.Namespace, channel: str | None) -> None:
    """Ask, where somebody can answer; else want ``--yes``."""
    if args.yes:
        return
    where = f"channel {channel}" if channel else "all channels"
    if args.user is not None:
        what = f"the data of user {args.user} in {where}"
    elif args.response:
        what = f"{len(args.response)} responses of {where}"
    else:
        what = f"all of {where}"
    if not sys.stdin.isatty():
        raise Failure(f"this deletes {what} for good: say --yes", status=2)
    if input(f"Delete {what} for good? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Failure("nothing was deleted")
