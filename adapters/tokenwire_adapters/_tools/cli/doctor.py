"""``tokenwire doctor``."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import platform
import re
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires, version
from typing import Any

from tokenwire._version import __version__
from tokenwire.errors import BackendMisconfigured, BackendUnavailable, TokenwireError
from tokenwire.registry import open_backend
from tokenwire_adapters._agents.known_sdks import KNOWN_SDKS
from tokenwire_adapters._tools.cli.backends import is_gateway, named_url, probably_meant, shown
from tokenwire_adapters._tools.cli.errors import Failure
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.stores import add_url, url_of

__all__ = ["main"]

_REQUIREMENT = re.compile(r"""(?P<package>[\w.-]+).*\bextra == ['"](?P<extra>[\w-]+)['"]""")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "doctor", description="Check this installation and a backend, and say what to do."
    )
    add_url(
        parser, "a backend, or a gateway (http://…/stream); default: $TOKENWIRE_URL, else memory://"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help="for the backend (default: 15)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Check the installation and a backend; return 0 when the backend answers, else 1."""
    args = _parser().parse_intermixed_args(argv)
    print(f"tokenwire {__version__}, Python {platform.python_version()}, {platform.system()}")
    print(f"msgspec {version('msgspec')}")
    print("\nextras")
    for extra, packages in _extras().items():
        print(f"  {extra:<12} {_installed(extra, packages)}")
    print("\ninstrumentors")
    for point in entry_points(group="tokenwire.instrumentors"):
        print(f"  {point.name:<16} {_provided_by(point)}")
    print("\nmodel SDKs and frameworks")
    for line in _sdks():
        print(f"  {line}")
    url = named_url(url_of(args))
    print(f"\nbackend {shown(url)}" if not is_gateway(url) else f"\ngateway {shown(url)}")
    began = time.monotonic()
    try:
        facts = _gateway(url) if is_gateway(url) else _backend(url, args.timeout)
    except Failure as failure:
        if meant := probably_meant(url):
            raise Failure(
                f"{failure}\n  Did you mean {meant} ?", status=failure.status
            ) from failure
        raise
    print(f"  answers within {1000 * (time.monotonic() - began):.0f} ms")
    for name, value in facts.items():
        print(f"  {name}: {value}")
    if url.startswith("memory:"):
        print("  note: memory:// is for one process; name a backend to check it")
    return 0


def _extras() -> dict[str, list[str]]:
    """The packages that each extra installs, as this installation's metadata has them."""
    extras: dict[str, list[str]] = {}
    for requirement in requires("tokenwire") or ():
        if match := _REQUIREMENT.match(requirement):
            extras.setdefault(match["extra"], []).append(match["package"])
    extras.pop("all", None)
    return extras


def _provided_by(point: EntryPoint) -> str:
    package = "?" if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return f"{package}, {'ready' if _is_installed(point.name) else 'not installed'}"


def _sdks() -> Iterator[str]:
    """The SDKs that are installed, and the layers that see them."""
    names = entry_points(group="tokenwire.instrumentors").names
    there = {name for name in names if _is_installed(name)}
    none = True
    for sdk in KNOWN_SDKS:
        try:
            installed = version(sdk.package)
        except PackageNotFoundError:
            continue
        none = False
        layers = sdk.seen_by(there)
        seen = (
            f"seen by {', '.join(layers)}"
            if layers
            else f"not seen: nothing here reads its {sdk.transport}; {sdk.remedy}"
        )
        yield f"{sdk.package:<16} {installed:<10} {seen}"
    if none:
        yield "none that is known is installed"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # of a package above it
        return False


def _installed(extra: str, packages: Sequence[str]) -> str:
    """The versions of an extra's packages, or how to install it where one is missing."""
    try:
        return ", ".join(f"{package} {version(package)}" for package in packages)
    except PackageNotFoundError:
        return f'-  pip install "tokenwire[{extra}]"'


def _gateway(url: str) -> dict[str, Any]:
    from tokenwire_adapters._tools.cli.gateway_client import get_json

    _, health = get_json(url, "/healthz")
    status, ready = get_json(url, "/readyz")
    if status != 200:
        raise Failure(f"the gateway is there, but not ready: {ready.get('detail', status)}")
    return health


def _backend(url: str, timeout: float) -> dict[str, Any]:
    try:
        return asyncio.run(_check(url, timeout))
    except TimeoutError as error:
        raise Failure(f"{shown(url)} did not answer within {timeout:g} s") from error
    except BackendMisconfigured as error:
        raise Failure(f"{shown(url)} answers, but something has to be set up: {error}") from error
    except BackendUnavailable as error:
        raise Failure(
            f"{shown(url)} cannot be reached: {error}\n"
            "  Is it running, are host and port right, is a firewall in the way?"
        ) from error
    except (TokenwireError, ValueError) as error:
        raise Failure(str(error)) from error


async def _check(url: str, timeout: float) -> dict[str, Any]:
    backend = open_backend(url)
    try:
        async with asyncio.timeout(timeout):
            return await backend.check()
    finally:
        await backend.close()
