"""``tokenwire demo``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from urllib.parse import quote

from tokenwire_adapters._tools.cli.errors import Failure, missing
from tokenwire_adapters._tools.cli.parsing import check_port, command_parser
from tokenwire_adapters._tools.cli.stores import add_url, url_of

__all__ = ["main"]

_PROMPT = "Tell me a brief story about a lighthouse."


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "demo",
        description="Open a page where an ordinary agent's tokens arrive live: open a second tab,"
        " reload in the middle, press stop. Needs no key and no network.",
    )
    parser.add_argument("--port", type=int, default=8765, help="(default: 8765, else a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument(
        "--once",
        nargs="?",
        const=_PROMPT,
        metavar="PROMPT",
        help="no page: one question and its answer in the terminal",
    )
    parser.add_argument(
        "--model", help="talk to OpenAI's API with this model (needs $OPENAI_API_KEY)"
    )
    add_url(parser, "the backend (default: memory://)")
    parser.add_argument(
        "--keep",
        nargs="?",
        const="demo.db",
        metavar="FILE",
        help="keep the history in a SQLite file, for the next start (default: demo.db)",
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=45.0,
        help="tokens per second of the local model (default: 45)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the demo; return an exit status."""
    args = _parser().parse_intermixed_args(argv)
    check_port(args.port)
    if not args.pace >= 0:
        raise Failure("--pace must be 0 (as fast as possible) or more", status=2)
    if args.model is not None and not os.environ.get("OPENAI_API_KEY"):
        raise Failure("--model talks to OpenAI's API: set $OPENAI_API_KEY, too", status=2)
    url = url_of(args) or "memory://"
    if args.keep is not None:
        if url != "memory://":
            raise Failure("--keep is a backend, too: give it or a URL, one of them", status=2)
        url = f"sqlite:///{quote(args.keep)}"
    try:
        import openai

        from tokenwire_adapters._tools.cli import demo_server
    except ImportError as error:
        raise missing(error) from error
    _ = openai
    options = demo_server.Options(
        url=url, port=args.port, model=args.model, pace=args.pace, browser=not args.no_browser
    )
    return demo_server.serve(options) if args.once is None else demo_server.once(options, args.once)
