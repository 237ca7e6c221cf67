"""``tokenwire serve``."""

from __future__ import annotations

import argparse
import importlib
import ipaddress
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenwire_adapters._tools.cli.backends import named_url, shown
from tokenwire_adapters._tools.cli.errors import Failure, missing
from tokenwire_adapters._tools.cli.keys import KEY_HELP, VARIABLE, read_key

if TYPE_CHECKING:
    from tokenwire_adapters.asgi import Gateway, Tokens

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tokenwire serve",
        allow_abbrev=False,
        description="Run the gateway alone: the channels of a backend over HTTP and WebSocket.",
    )
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="the backend (default: $TOKENWIRE_URL)"
    )
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
    run.add_argument("--no-access-log", action="store_true")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Serve until interrupted."""
    told = _parser().parse_args(arguments)
    if not 0 <= told.port <= 65535:
        raise Failure("--port must be from 0 to 65535", status=2)
    if bool(told.tls_cert) != bool(told.tls_key):
        raise Failure("--tls-cert and --tls-key go together", status=2)
    try:
        import uvicorn

        from tokenwire_adapters._tools.cli import server
        from tokenwire_adapters.asgi import Tokens
    except ImportError as error:
        raise missing(error) from error
    tokens = _tokens(told, Tokens)
    authorize = _function(told.authorize)
    if not _is_loopback(told.host) and tokens is None and authorize is None:
        raise Failure(
            f"{told.host} can be reached from other machines, and anybody could read every channel:"
            f" give --key-file (or ${VARIABLE}) or --authorize, or stay at 127.0.0.1",
            status=2,
        )
    url = named_url(told.url)
    if url.startswith("memory:"):
        _warn("memory:// lives in this process alone: agents elsewhere cannot write to it")
    logging.basicConfig(level=told.log_level.upper(), format="%(levelname)s: %(name)s: %(message)s")
    with server.bound_socket(told.host, told.port) as listening:
        gateway = _gateway(told, url, tokens, authorize)
        scheme = "https" if told.tls_cert else "http"
        host = f"[{told.host}]" if ":" in told.host else told.host
        address = f"{scheme}://{host}:{listening.getsockname()[1]}{told.root_path}"
        print(f"tokenwire gateway: {address} ({shown(url)})", flush=True)
        settings = _settings(told)
        configuration = server.config(gateway, connections=told.connections, **settings)
        try:
            uvicorn.Server(configuration).run(sockets=[listening])
        except KeyboardInterrupt:
            return 0
    return 0


def _gateway(told: argparse.Namespace, url: str, tokens: Tokens | None, authorize: Any) -> Gateway:
    from tokenwire_adapters.asgi import Gateway, Limits, MaskTokens

    # Tokens of any kind may stand in a query: uvicorn's own log must not keep them.
    for name in ("uvicorn.access", "uvicorn.error", "uvicorn.asgi"):
        logging.getLogger(name).addFilter(MaskTokens())
    return Gateway(
        url,
        authorize=authorize,
        tokens=tokens,
        allow_origins=told.allow_origin,
        limits=Limits(connections=told.connections),
        owner=told.owner,
        metrics_for=told.metrics,
    )


def _settings(told: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "log_level": told.log_level,
        "access_log": not told.no_access_log,
        "root_path": told.root_path,
    }
    if told.tls_cert:
        settings.update(ssl_certfile=told.tls_cert, ssl_keyfile=told.tls_key)
    if told.forwarded_allow_ips:
        settings.update(proxy_headers=True, forwarded_allow_ips=told.forwarded_allow_ips)
    return settings


def _tokens(told: argparse.Namespace, make: type[Tokens]) -> Tokens | None:
    key = read_key(told.key_file)
    if key is None:
        if told.key_file or told.issuer or told.audience:
            raise Failure("there is no key to check tokens with", status=2)
        return None
    # A file is read again now and then: that is how keys rotate.
    source: Any = key if told.key_file in (None, "-") else lambda: read_key(told.key_file)
    return make(source, issuer=told.issuer, audience=told.audience)


def _function(name: str | None) -> Any:
    if name is None:
        return None
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise Failure(f"--authorize takes MODULE:FUNCTION, not {name!r}", status=2)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise Failure(f"--authorize: cannot load {name}: {error}", status=2) from error
    if not callable(function):
        raise Failure(f"--authorize: {name} is not a function", status=2)
    return function


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _warn(message: str) -> None:
    print(f"tokenwire serve: {message}", file=sys.stderr)
