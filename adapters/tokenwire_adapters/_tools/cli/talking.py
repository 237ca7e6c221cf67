"""``tokenwire cancel`` and ``tokenwire send``: what a watcher may do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from tokenwire import CancelOutcome, Sink
from tokenwire.errors import InvalidName
from tokenwire_adapters._tools.cli.errors import Failure
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.stores import add_where, open_store, print_json, split_where

__all__ = ["cancel", "cancel_parser", "send", "send_parser"]


def cancel_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "cancel",
        description="Stop a response, or all that is streaming in a channel.",
        usage="tokenwire cancel [URL] CHANNEL [RESPONSE] [--reason TEXT] [--json]",
    )
    add_where(parser, "CHANNEL [RESPONSE]")
    parser.add_argument("--reason", metavar="TEXT", help="for watchers and the producer")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="(default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="one outcome a line, as JSON")
    return parser


def cancel(argv: Sequence[str]) -> int:
    """Cancel responses; return 0 when all of them have ended, else 1."""
    args = cancel_parser().parse_intermixed_args(argv)
    url, (channel, response) = split_where(args, ("channel", "response"), optional=1)
    channel = channel or ""
    with open_store(url, "cancel") as sink:
        ids = [response] if response else _streaming(sink, channel)
        if not ids and not args.json:
            print(f"nothing is streaming in {channel}")
        outcomes = [
            sink.cancel(channel, one, reason=args.reason, timeout=args.timeout) for one in ids
        ]
    for outcome in outcomes:
        if args.json:
            print_json(outcome)
        else:
            print(f"{outcome.response_id}: {_explained(outcome)}")
    return 0 if all(outcome.acknowledged for outcome in outcomes) else 1


def _streaming(sink: Sink, channel: str) -> list[str]:
    return [one.id for one in sink.history(channel, limit=1000).items if not one.ended]


def _explained(outcome: CancelOutcome) -> str:
    if outcome.state == "pending":
        return "has not started; it will be cancelled when it does"
    if outcome.state == "streaming":
        return "its producer did not answer in time"
    return outcome.state


def send_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "send",
        description="Send an input to the agent of a channel.",
        usage="tokenwire send [URL] CHANNEL [TEXT] [--name NAME] [--sender NAME] [--data] [--json]",
    )
    add_where(parser, "CHANNEL [TEXT]")
    parser.add_argument("--name", default="message", help="of the input (default: message)")
    parser.add_argument("--sender", metavar="NAME", help="who sends it")
    parser.add_argument("--id", help="names the input: the same id again sends nothing")
    parser.add_argument("--data", action="store_true", help="the text is JSON")
    parser.add_argument("--json", action="store_true", help="print the cursor as JSON")
    return parser


def send(argv: Sequence[str]) -> int:
    """Send an input, from the command line or stdin; return 0."""
    args = send_parser().parse_intermixed_args(argv)
    url, (channel, text) = split_where(args, ("channel", "text"), optional=1)
    if text is None or text == "-":
        text = sys.stdin.read().removesuffix("\n")
    data: Any = text
    if args.data:
        try:
            data = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise Failure(f"--data takes JSON: {error}", status=2) from error
    with open_store(url, "send") as sink:
        try:
            cursor = sink.input(channel or "", args.name, data, sender=args.sender, id=args.id)
        except InvalidName as error:
            raise Failure(str(error), status=2) from error
    if args.json:
        print_json({"cursor": cursor})
    return 0
