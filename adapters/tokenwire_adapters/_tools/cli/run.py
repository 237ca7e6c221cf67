"""``tokenwire run``: start a program as it is, and publish what its models say."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenwire import open_sink
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.inject import published

__all__ = ["disabled", "environment", "main", "resolve"]

_FOLDER = Path(__file__).resolve().parents[1] / "inject"


def main(argv: Sequence[str] | None = None) -> int:
    """Start a program under ``tokenwire run``.

    On POSIX the program takes the place of this process, so signals and the exit status are its
    own, and this returns only when it cannot be started.

    :param argv: without the command's name: ``["--to", URL, "--", "python", "a.py"]``.
    :return: an exit status: 2 for a wrong command line, 126 and 127 as a shell gives them.
    """
    parser = command_parser(
        "run",
        description="Run a Python program and publish every token its models stream.",
        usage="tokenwire run [OPTION ...] -- COMMAND [ARGUMENT ...]",
    )
    parser.add_argument("--to", metavar="URL", help="the backend (default: $TOKENWIRE_URL)")
    parser.add_argument(
        "--channel",
        metavar="NAME",
        help="of all that the program itself gives none (default: $TOKENWIRE_CHANNEL)",
    )
    parser.add_argument(
        "--session-first",
        action="store_true",
        help="a framework's session, as LangGraph's thread_id, comes before --channel",
    )
    parser.add_argument(
        "--on-cancel",
        choices=("end", "raise"),
        help="what a watcher's cancel does to the code that reads: its stream ends, or raises"
        " (default: streams of SDKs end, and frameworks raise)",
    )
    parser.add_argument(
        "--children", action="store_true", help="also Python programs that the program starts"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the program and its arguments")
    try:
        args = parser.parse_args(argv)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 2
    command: list[str] = args.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        return _complain("name the program to run, after --", 2)
    url: str | None = args.to or os.environ.get("TOKENWIRE_URL")
    try:
        open_sink(url).close()  # reports a wrong URL now
    except (ValueError, ImportError) as error:
        return _complain(str(error), 2)
    if not url:
        _complain("no --to and no $TOKENWIRE_URL: tokens will stay inside the program", 0)
    program = resolve(command)
    if program is None:
        return _complain(f"{command[0]}: command not found", 127)
    env = environment(
        os.environ,
        to=args.to,
        channel=args.channel,
        session_first=args.session_first,
        on_cancel=args.on_cancel,
        children=args.children,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        return _start(program, env)
    except OSError as error:
        return _complain(f"{command[0]}: {error.strerror or error}", 126)


def _start(program: list[str], env: dict[str, str]) -> int:
    """Start a Python program, on POSIX in place of this process.

    :raises OSError: when it cannot be started.
    """
    in_place = os.name == "posix"
    mark = "" if disabled(env) else published.add_mark(env, report_in_program=in_place)
    try:
        if in_place:
            os.execve(program[0], program, env)  # noqa: S606  (what the user asked for)
        status = subprocess.run(program, env=env, check=False).returncode  # noqa: S603
        published.report_if_nothing(mark)
        return status
    finally:
        published.remove_mark(mark)


def disabled(env: Mapping[str, str]) -> bool:
    """Whether ``$TOKENWIRE_DISABLED`` asks that nothing be published."""
    return env.get("TOKENWIRE_DISABLED", "").lower() not in ("", "0", "false")


def resolve(command: Sequence[str]) -> list[str] | None:
    """The command line to execute: a program on the path, or this Python with a script or ``-m``.

    :return: None when there is no such program.
    """
    first = command[0]
    if first == "-m" or (first.endswith(".py") and not os.access(first, os.X_OK)):
        return [sys.executable, *command]
    program = shutil.which(first)
    if program is None and first in ("python", "python3"):
        program = sys.executable
    return None if program is None else [program, *command[1:]]


def environment(
    base: Mapping[str, str],
    *,
    to: str | None = None,
    channel: str | None = None,
    session_first: bool = False,
    on_cancel: str | None = None,
    children: bool = False,
) -> dict[str, str]:
    """The environment in which a Python program publishes what its own models say."""
    env = dict(base)
    path = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    env["PYTHONPATH"] = os.pathsep.join([str(_FOLDER), *path])
    if to:
        env["TOKENWIRE_URL"] = to
    if channel:
        env["TOKENWIRE_CHANNEL"] = channel
        env["TOKENWIRE_CHANNEL_FIRST"] = "0" if session_first else "1"
    if on_cancel:
        env["TOKENWIRE_ON_CANCEL"] = on_cancel
    if children:
        env["TOKENWIRE_RUN_CHILDREN"] = "1"
    else:
        env.pop("TOKENWIRE_RUN_CHILDREN", None)
    return env


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"tokenwire run: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
