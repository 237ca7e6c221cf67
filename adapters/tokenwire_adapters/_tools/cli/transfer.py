"""``tokenwire export`` and ``tokenwire import``: channels as JSON lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from tokenwire.errors import DecodeError
from tokenwire_adapters._tools.cli.backends import named_url
from tokenwire_adapters._tools.cli.errors import Failure
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.stores import (
    add_where,
    open_store,
    print_json,
    split_where,
    take_url,
    url_of,
)
from tokenwire_adapters._tools.cli.terminal import progress

__all__ = ["export", "export_parser", "import_", "import_parser"]


def export_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "export",
        description="Write channels, by default all, as JSON lines.",
        usage="tokenwire export [URL] [CHANNEL ...] [--output FILE]",
    )
    add_where(parser, "[CHANNEL ...]")
    parser.add_argument(
        "--output", metavar="FILE", help="a new file (default: stdout, as JSON lines)"
    )
    return parser


def export(argv: Sequence[str]) -> int:
    """Export channels; return 0."""
    args = export_parser().parse_intermixed_args(argv)
    channels = take_url(args)
    if args.channel is not None:
        channels.append(args.channel)
    url = named_url(url_of(args))
    with (
        open_store(url, "export") as sink,
        _output(args.output) as file,
        progress("exporting") as advance,
    ):
        for line in sink.export_channels(channels or None):
            file.write(line)
            advance(1)
        file.flush()
    return 0


@contextmanager
def _output(path: str | None) -> Generator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        file = Path(path).open("xb")  # noqa: SIM115
    except FileExistsError as error:
        raise Failure(f"{path} is there already", status=2) from error
    with file:
        yield file


def import_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "import",
        description="Add the responses and events of an export to their channels. What is there"
        " already is left alone, so that it can be repeated.",
        usage="tokenwire import [URL] FILE [--json]",
    )
    add_where(parser, "FILE")
    parser.add_argument("--json", action="store_true", help="print what became of it as JSON")
    return parser


def import_(argv: Sequence[str]) -> int:
    """Import a file, or stdin (``-``); return 0, or 1 when the backend refused some of it."""
    args = import_parser().parse_intermixed_args(argv)
    url, (name,) = split_where(args, ("file",))
    path = None if name == "-" else Path(name or "")
    with open_store(url, "import") as sink:
        source = nullcontext(sys.stdin.buffer) if path is None else path.open("rb")
        total = path.stat().st_size if path is not None and path.is_file() else None
        with source as file, progress("importing", total) as advance:
            try:
                report = sink.import_channels(_counted(file, advance))
            except DecodeError as error:
                raise Failure(f"{name}, {error}") from error
    if args.json:
        print_json(report)
    else:
        print(
            f"imported: {report.responses} responses, {report.events} other events;"
            f" {report.present} were there already"
        )
        for what, reason in report.refused.items():
            print(f"tokenwire import: {what} was refused: {reason}", file=sys.stderr)
        if report.unknown:
            print(
                f"tokenwire import: {report.unknown} lines are of a later version", file=sys.stderr
            )
    return 1 if report.refused else 0


def _counted(lines: Iterable[bytes], advance: Callable[[int], Any]) -> Iterator[bytes]:
    """The lines, with the progress in bytes."""
    for line in lines:
        yield line
        advance(len(line))
