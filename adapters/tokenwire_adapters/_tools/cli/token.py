"""``tokenwire token``."""

from __future__ import annotations

import argparse
import re
import secrets
from collections.abc import Sequence

from tokenwire_adapters._tools.cli.errors import Failure, missing
from tokenwire_adapters._tools.cli.keys import KEY_HELP, VARIABLE, read_key
from tokenwire_adapters._tools.cli.parsing import command_parser

__all__ = ["main"]

_ACTIONS = ("subscribe", "history", "cancel", "input", "*")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "token",
        description="Make a signed token for a gateway's client, and print it.",
        epilog="Example: tokenwire token --subject u1 --allow 'chat-u1-*=subscribe,history,cancel'",
    )
    parser.add_argument("--key-file", metavar="FILE", help=KEY_HELP)
    parser.add_argument("--subject", metavar="NAME", help="who the client is (sub)")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATTERN=ACTIONS",
        help="channels (* stands for any characters) and what may be done there:"
        " subscribe, history, cancel, input, or *; may be repeated",
    )
    parser.add_argument(
        "--lifetime", default="1h", metavar="TIME", help="such as 5m, 12h, 7d (default: 1h)"
    )
    parser.add_argument("--issuer", help="iss")
    parser.add_argument("--audience", help="aud")
    parser.add_argument("--key-id", metavar="ID", help="which key of a set (kid)")
    parser.add_argument("--algorithm", metavar="NAME", help="such as HS256, ES256, Ed25519")
    parser.add_argument(
        "--new-secret", action="store_true", help="print a new secret instead, for the gateway"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Print a token; return an exit status."""
    args = _parser().parse_args(argv)
    if args.new_secret:
        print(secrets.token_urlsafe(48))
        return 0
    try:
        from tokenwire_adapters.asgi import mint_token
    except ImportError as error:
        raise missing(error, "gateway") from error
    capability = _capability(args.allow)
    key = read_key(args.key_file)
    if key is None:
        raise Failure(
            f"no key: set ${VARIABLE} or give --key-file "
            " (`tokenwire token --new-secret` makes one)",
            status=2,
        )
    print(
        mint_token(
            key,
            subject=args.subject,
            capability=capability,
            lifetime=_seconds(args.lifetime),
            issuer=args.issuer,
            audience=args.audience,
            algorithm=args.algorithm,
            key_id=args.key_id,
        )
    )
    return 0


def _capability(allowed: Sequence[str]) -> dict[str, list[str]]:
    capability: dict[str, list[str]] = {}
    for rule in allowed:
        pattern, equals, names = rule.rpartition("=")
        actions = [name.strip() for name in names.split(",")]
        if not equals or not pattern or not set(actions) <= set(_ACTIONS):
            raise Failure(
                f"--allow takes PATTERN=ACTIONS, with actions among {', '.join(_ACTIONS)};"
                f" not {rule!r}",
                status=2,
            )
        capability[pattern] = actions
    if not capability:
        raise Failure("allow something: --allow 'chat-*=subscribe,history'", status=2)
    return capability


def _seconds(lifetime: str) -> float:
    match = re.fullmatch(r"(\d{1,9})([smhd])", lifetime)
    if match is None:
        raise Failure(f"--lifetime is a time such as 90s, 5m, 12h, 7d; not {lifetime!r}", status=2)
    return float(int(match[1]) * _UNITS[match[2]])
