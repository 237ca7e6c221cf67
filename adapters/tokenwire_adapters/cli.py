"""The command line: ``tokenwire COMMAND``; docs/cli.md lists the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tokenwire._version import __version__
from tokenwire.errors import TokenwireError
from tokenwire_adapters._tools.cli.commands import COMMANDS, run_command
from tokenwire_adapters._tools.cli.errors import Failure, missing

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tokenwire",
        description="Every token your agent produces, on every screen that is watching.",
        epilog="`tokenwire COMMAND --help` lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"tokenwire {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status.

    :param argv: without the program's name; by default, of this process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in COMMANDS:
            return run_command(arguments[0], arguments[1:])
        parser = _parser()
        parser.parse_args(arguments)
        parser.print_help()
        return 2
    except SystemExit as exit_:  # argparse: --help, --version, a wrong argument
        return exit_.code if isinstance(exit_.code, int) else 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `tokenwire watch … | head`
        sys.stderr.close()
        return 141
    except Failure as failure:
        return _complain(failure)
    except ImportError as error:
        return _complain(missing(error))
    except (TokenwireError, ValueError, OSError) as error:
        return _complain(Failure(str(error) or type(error).__name__))


def _complain(failure: Failure) -> int:
    print(f"tokenwire: {failure}", file=sys.stderr)
    return failure.status


if __name__ == "__main__":
    sys.exit(main())
