"""``tokenwire proxy``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

from tokenwire_adapters._tools.cli.backends import shown
from tokenwire_adapters._tools.cli.errors import Failure, missing
from tokenwire_adapters._tools.cli.parsing import check_port, command_parser, load_function
from tokenwire_adapters._tools.cli.stores import add_where, split_where
from tokenwire_adapters._tools.proxy.hosts import is_loopback

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "proxy",
        description="Pass requests on to model providers as they are, and publish what models say.",
        usage="tokenwire proxy [URL] [CHANNEL] --upstream NAME[=URL] [OPTION ...]",
        epilog="Example: tokenwire proxy redis://localhost chat-42"
        " --upstream openai=https://api.openai.com/v1",
    )
    parser.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="NAME[=URL]",
        help="a provider's server, for paths that begin with /NAME/; may be repeated. Without a"
        " URL: openai, anthropic, google, groq, cohere, together, mistral, ollama",
    )
    parser.add_argument(
        "--default",
        metavar="NAME",
        help="the upstream of other paths (default: the only one that there is)",
    )
    add_where(
        parser,
        "[CHANNEL]",
        url_help="the backend (default: $TOKENWIRE_URL), and the channel of requests without an"
        " X-Tokenwire-Channel header (default: $TOKENWIRE_CHANNEL)",
    )
    parser.add_argument(
        "--on-cancel",
        choices=("end", "raise"),
        default="end",
        help="what the client meets after a watcher's cancel: the end of its stream, or a broken"
        " connection (default: end)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8787, help="0 takes a free one (default: 8787)")
    parser.add_argument(
        "--authorize",
        metavar="MODULE:FUNCTION",
        help="ask authorize(connection, upstream, channel), from a module on the path; needed to"
        " listen beyond this machine",
    )
    parser.add_argument(
        "--max-body", type=int, default=128, metavar="MIB", help="of a request (default: 128)"
    )
    parser.add_argument("--connections", type=int, default=1000, help="at most (default: 1000)")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="warning"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Serve until interrupted; return an exit status."""
    args = _parser().parse_intermixed_args(argv)
    check_port(args.port)
    try:
        import uvicorn

        from tokenwire_adapters._tools.cli import proxy_server, server
        from tokenwire_adapters._tools.proxy.app import Proxy
    except ImportError as error:
        raise missing(error, "proxy") from error
    authorize = load_function("--authorize", args.authorize)
    if not is_loopback(args.host) and authorize is None:
        raise Failure(
            f"{args.host} can be reached from other machines, and anybody could use this proxy:"
            " give --authorize, or stay at 127.0.0.1",
            status=2,
        )
    url, (channel,) = split_where(args, ("channel",), optional=1)
    if url.startswith("memory:"):
        _warn("memory:// lives in this process alone: nobody else can watch it; name one with --to")
    logging.basicConfig(level=args.log_level.upper(), format="%(levelname)s: %(name)s: %(message)s")
    with server.bound_socket(args.host, args.port) as listener:
        try:
            app = Proxy(
                _upstreams(args.upstream),
                url,
                channel=channel,
                default=args.default,
                on_cancel=args.on_cancel,
                authorize=authorize,
                max_body=args.max_body * 2**20,
            )
        except ValueError as error:
            raise Failure(str(error), status=2) from error
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"http://{host}:{listener.getsockname()[1]}"
        _print_addresses(app, address, shown(url))
        configuration = proxy_server.config(
            app, connections=args.connections, log_level=args.log_level
        )
        try:
            uvicorn.Server(configuration).run(sockets=[listener])
        except KeyboardInterrupt:
            return 0
    return 0


def _upstreams(texts: Sequence[str]) -> dict[str, str]:
    from tokenwire_adapters._tools.proxy.upstreams import split_upstream
    from tokenwire_adapters._tools.proxy.variables import PROVIDERS

    known = {provider.name: provider.url for provider in PROVIDERS if provider.url}
    upstreams: dict[str, str] = {}
    for text in texts:
        upstream = split_upstream(f"{text}={known[text]}" if text in known else text)
        if upstream.name in upstreams:
            raise ValueError(f"there are two upstreams with the name {upstream.name!r}")
        upstreams[upstream.name] = upstream.url
    return upstreams


def _print_addresses(app: Any, address: str, backend: str) -> None:
    from tokenwire_adapters._tools.proxy.variables import PROVIDERS

    variables = {provider.name: provider.variables for provider in PROVIDERS}
    print(f"tokenwire proxy: {address} ({backend})")
    for upstream in app.upstreams:
        print(f"  {address}/{upstream.name} -> {upstream.url}")
        for variable, suffix in variables.get(upstream.name, {}).items():
            print(f"    {variable}={address}/{upstream.name}{suffix}")
    sys.stdout.flush()


def _warn(message: str) -> None:
    print(f"tokenwire proxy: {message}", file=sys.stderr)
