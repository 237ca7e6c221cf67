"""``tokenwire completion``: a script for the shell."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tokenwire_adapters._tools.cli.commands import COMMANDS, parser_of
from tokenwire_adapters._tools.cli.parsing import command_parser

__all__ = ["main"]

_SHELLS = ("bash", "zsh", "tcsh")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "completion",
        description="Print a script that completes `tokenwire` in a shell.",
        epilog='bash: eval "$(tokenwire completion bash)" in ~/.bashrc; zsh: tokenwire completion'
        " zsh > a folder of $fpath, as _tokenwire.",
    )
    parser.add_argument("shell", choices=_SHELLS)
    return parser


def main(argv: Sequence[str]) -> int:
    """Print the script; return 0."""
    args = _parser().parse_args(argv)
    import shtab

    print(shtab.complete(_whole_parser(), shell=args.shell))
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    """One parser with those of all commands in it."""
    whole = argparse.ArgumentParser(prog="tokenwire")
    commands = whole.add_subparsers()
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, parents=[parser_of(name)], add_help=False)
    return whole
