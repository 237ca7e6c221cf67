"""What the parsers of all commands have in common."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any

from tokenwire_adapters._tools.cli.errors import Failure

__all__ = ["check_port", "command_parser", "load_function"]


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


def load_function(option: str, name: str | None) -> Any:
    """Load the function that an option names as ``MODULE:FUNCTION``, from the path or this folder.

    :return: None without a name.
    :raises Failure: when there is no such function.
    """
    if name is None:
        return None
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise Failure(f"{option} takes MODULE:FUNCTION, not {name!r}", status=2)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise Failure(f"{option}: cannot load {name}: {error}", status=2) from error
    if not callable(function):
        raise Failure(f"{option}: {name} is not a function", status=2)
    return function
