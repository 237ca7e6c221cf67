"""``tokenwire publish``: any program's output becomes a response."""

from __future__ import annotations

import argparse
import codecs
import os
import queue
import sys
import threading
from collections.abc import Iterator, Sequence

from tokenwire_adapters._tools.cli.errors import Failure
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.stores import add_where, open_store, print_json, split_where

__all__ = ["main"]

_CHUNK = 65536  # bytes


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "publish",
        description="Publish what comes on stdin as one response, as it comes.",
        usage="PROGRAM | tokenwire publish [URL] CHANNEL [--tee] [--metadata KEY=VALUE] [--json]",
    )
    add_where(parser, "CHANNEL")
    parser.add_argument("--response", metavar="ID", help="its id (default: a new one)")
    parser.add_argument("--run", metavar="ID", help="the run that it belongs to")
    parser.add_argument("--kind", default="text", help="text (the default), reasoning, …")
    parser.add_argument(
        "--metadata", action="append", default=[], metavar="KEY=VALUE", help="may be repeated"
    )
    parser.add_argument("--tee", action="store_true", help="pass it on to stdout, too")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, on stderr")
    return parser


def main(argv: Sequence[str]) -> int:
    """Publish stdin; return 0 when all of it is in the channel, 1 when it was cancelled or lost."""
    args = _parser().parse_intermixed_args(argv)
    url, (channel,) = split_where(args, ("channel",))
    metadata = dict(_pair(item) for item in args.metadata)
    if sys.stdin.isatty():
        print("tokenwire publish: reading the terminal; Ctrl-D ends the response", file=sys.stderr)
    with open_store(url, "publish") as sink:
        response = sink.respond(channel, response_id=args.response, run=args.run, metadata=metadata)
        try:
            texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
            response.add_cancel_callback(lambda: texts.put(None))
            threading.Thread(target=_read_into, args=(texts,), daemon=True).start()
            while (text := texts.get()) is not None:
                if not response.write(text, kind=args.kind):
                    break  # a watcher cancelled it
                if args.tee:
                    sys.stdout.write(text)
                    sys.stdout.flush()
            response.finish()
        except BaseException as error:
            response.fail(str(error) or type(error).__name__)
            raise
        finally:
            receipt = response.wait(10.0)
        state = response.state
    if args.json:
        outcome = {"id": response.id, "state": state, "delivery": receipt.status}
        print_json(outcome, sys.stderr)
    elif state == "cancelled":
        print(f"tokenwire publish: cancelled: {response.cancel_reason or ''}", file=sys.stderr)
    return 0 if state == "complete" and receipt.status in ("delivered", "recovered") else 1


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Failure(f"--metadata takes KEY=VALUE, not {text!r}", status=2)
    return key, value


def _read_into(texts: queue.SimpleQueue[str | None]) -> None:
    """Put what comes on stdin into a queue, then None; on a thread, since a read may block."""
    for text in _input():
        texts.put(text)
    texts.put(None)


def _input() -> Iterator[str]:
    """What comes on stdin, as soon as it comes; bytes that are no UTF-8 become U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while chunk := os.read(sys.stdin.fileno(), _CHUNK):
        if text := decoder.decode(chunk):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
