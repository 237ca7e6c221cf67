"""What the parsers of all commands have in common."""

from __future__ import annotations

import argparse
from typing import Any

from tokenwire_adapters._tools.cli.errors import Failure

__all__ = ["check_port", "command_parser"]


def command_parser(command: str, **options: Any) -> argparse.ArgumentParser:
    """Make the parser of ``tokenwire COMMAND``. Options cannot be abbreviated.

    :param options: what `argparse.ArgumentParser` takes.
    """
    return argparse.ArgumentParser(prog=f"tokenwire {command}", allow_abbrev=False, **options)


def check_port(port: int) -> None:
    """Check the value of ``--port``.

    :raises Failure: when it is no TCP port.
    """
    if not 0 <= port <= 65535:
        raise Failure("--port must be from 0 to 65535", status=2)
