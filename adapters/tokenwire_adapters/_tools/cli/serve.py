"""``tokenwire serve``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tokenwire_adapters._tools.cli.backends import named_url, shown
from tokenwire_adapters._tools.cli.errors import Failure, missing
from tokenwire_adapters._tools.cli.keys import KEY_HELP, VARIABLE, read_key
from tokenwire_adapters._tools.cli.parsing import check_port, command_parser, load_function
from tokenwire_adapters._tools.cli.stores import add_url, url_of
from tokenwire_adapters._tools.proxy.hosts import is_loopback

if TYPE_CHECKING:
    import uvicorn

    from tokenwire_adapters.asgi import Gateway, Tokens

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "serve",
        description="Run the gateway alone: the channels of a backend over HTTP and WebSocket.",
    )
    add_url(parser, "the backend (default: $TOKENWIRE_URL)")
    parser.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    who = parser.add_argument_group("who may do what (needed to listen beyond this machine)")
    who.add_argument("--key-file", metavar="FILE", help=f"check signed tokens: {KEY_HELP}")
    who.add_argument("--issuer", help="what a token's iss must be")
    who.add_argument("--audience", help="what a token's aud must have")
    who.add_argument(
        "--authorize",
        metavar="MODULE:FUNCTION",
        help="ask authorize(connection, channel, action), from a module on the path",
    )
    who.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a site whose pages may use this gateway; may be repeated",
    )
    who.add_argument(
        "--owner", metavar="FIELD", help="only the principal in this metadata field may cancel"
    )
    run = parser.add_argument_group("how it runs")
    run.add_argument("--root-path", default="", help="where a proxy in front mounts it")
    run.add_argument(
        "--metrics",
        choices=("local", "everyone", "nobody"),
        default="local",
        help="(default: local)",
    )
    run.add_argument("--tls-cert", metavar="FILE")
    run.add_argument("--tls-key", metavar="FILE")
    run.add_argument(
        "--forwarded-allow-ips",
        metavar="ADDRESSES",
        help="proxies whose X-Forwarded-For is believed, separated by commas",
    )
    run.add_argument("--connections", type=int, default=10_000, help="at most (default: 10000)")
    run.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that share the port; SIGHUP replaces them one by one (default: 1)",
    )
    run.add_argument("--worker", metavar="DESCRIPTORS", help=argparse.SUPPRESS)
    run.add_argument("--no-access-log", action="store_true")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def main(argv: Sequence[str]) -> int:
    """Serve until interrupted; return an exit status."""
    args = _parser().parse_intermixed_args(argv)
    check_port(args.port)
    _check_workers(args)
    if bool(args.tls_cert) != bool(args.tls_key):
        raise Failure("--tls-cert and --tls-key go together", status=2)
    try:
        import uvicorn

        from tokenwire_adapters._tools.cli import server
        from tokenwire_adapters.asgi import Tokens
    except ImportError as error:
        raise missing(error) from error
    tokens = _tokens(args, Tokens)
    authorize = load_function("--authorize", args.authorize)
    if not is_loopback(args.host) and tokens is None and authorize is None:
        raise Failure(
            f"{args.host} can be reached from other machines, and anybody could read every channel:"
            f" give --key-file (or ${VARIABLE}) or --authorize, or stay at 127.0.0.1",
            status=2,
        )
    url = named_url(url_of(args))
    if url.startswith("memory:"):
        if args.workers > 1:
            raise Failure(
                "memory:// lives in one process: --workers needs a backend that all of them share,"
                " such as redis://localhost",
                status=2,
            )
        _warn("memory:// lives in this process alone: agents elsewhere cannot write to it")
    logging.basicConfig(level=args.log_level.upper(), format="%(levelname)s: %(name)s: %(message)s")
    if args.worker:
        return _work(args, url, tokens, authorize)
    with server.bound_socket(args.host, args.port) as listener:
        scheme = "https" if args.tls_cert else "http"
        host = f"[{args.host}]" if ":" in args.host else args.host
        address = f"{scheme}://{host}:{listener.getsockname()[1]}{args.root_path}"
        if args.workers > 1:
            address = f"{address} ({shown(url)}, {args.workers} workers)"
            return _supervise(argv, listener, args.workers, address)
        gateway = _gateway(args, url, tokens, authorize)
        print(f"tokenwire gateway: {address} ({shown(url)})", flush=True)
        configuration = _configuration(args, gateway)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(configuration).run(sockets=[listener])
    return 0


def _check_workers(args: argparse.Namespace) -> None:
    if args.workers < 1:
        raise Failure("--workers must be at least 1", status=2)
    if args.workers > 1 and not hasattr(signal, "SIGHUP"):
        raise Failure("--workers needs a system of the Unix kind", status=2)
    if args.workers > 1 and args.key_file == "-":
        raise Failure("workers cannot share stdin: give --key-file a file", status=2)


def _supervise(argv: Sequence[str], listener: socket.socket, count: int, address: str) -> int:
    from tokenwire_adapters._tools.cli.workers import Workers

    async def supervise() -> None:
        workers = Workers(["serve", *argv], listener, count, _warn)
        await workers.run(lambda: print(f"tokenwire gateway: {address}", flush=True))

    asyncio.run(supervise())
    return 0


def _work(args: argparse.Namespace, url: str, tokens: Tokens | None, authorize: Any) -> int:
    """Serve as one of several workers."""
    from tokenwire_adapters._tools.cli import workers

    listener, control = workers.inherited(args.worker)
    with suppress(KeyboardInterrupt), listener, control:
        configuration = _configuration(args, _gateway(args, url, tokens, authorize))
        workers.serve_as_worker(configuration, listener, control)
    return 0


def _configuration(args: argparse.Namespace, gateway: Gateway) -> uvicorn.Config:
    from tokenwire_adapters._tools.cli import server

    return server.config(gateway, connections=args.connections, **_settings(args))


def _gateway(args: argparse.Namespace, url: str, tokens: Tokens | None, authorize: Any) -> Gateway:
    from tokenwire_adapters.asgi import Gateway, Limits, MaskTokens

    # A query may hold a token: uvicorn's own log must not keep it.
    for name in ("uvicorn.access", "uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).addFilter(MaskTokens())
    return Gateway(
        url,
        authorize=authorize,
        tokens=tokens,
        allow_origins=args.allow_origin,
        limits=Limits(connections=args.connections),
        owner=args.owner,
        metrics_for=args.metrics,
    )


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "log_level": args.log_level,
        "access_log": not args.no_access_log,
        "root_path": args.root_path,
    }
    if args.tls_cert:
        settings.update(ssl_certfile=args.tls_cert, ssl_keyfile=args.tls_key)
    if args.forwarded_allow_ips:
        settings.update(proxy_headers=True, forwarded_allow_ips=args.forwarded_allow_ips)
    return settings


def _tokens(args: argparse.Namespace, tokens_class: type[Tokens]) -> Tokens | None:
    key = read_key(args.key_file)
    if key is None:
        if args.key_file or args.issuer or args.audience:
            raise Failure("there is no key to check tokens with", status=2)
        return None
    # A file is read again from time to time, so that keys can rotate.
    source: Any = key if args.key_file in (None, "-") else lambda: read_key(args.key_file)
    return tokens_class(source, issuer=args.issuer, audience=args.audience)


def _warn(message: str) -> None:
    print(f"tokenwire serve: {message}", file=sys.stderr)
