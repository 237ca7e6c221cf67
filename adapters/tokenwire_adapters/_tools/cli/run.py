"""``tokenwire run``: start a program as it is, and publish what its models say."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tokenwire
from tokenwire_adapters._tools.cli.errors import Failure, missing
from tokenwire_adapters._tools.cli.parsing import command_parser
from tokenwire_adapters._tools.cli.programs import is_python, resolve
from tokenwire_adapters._tools.inject import published
from tokenwire_adapters._tools.inject.base_urls import restore_base_urls

__all__ = ["disabled", "environment", "main"]

_FOLDER = Path(__file__).resolve().parents[1] / "inject"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "run",
        description="Run a program as it is, and publish every token its models stream. A Python"
        " program publishes by itself; any other one is pointed at a proxy on this machine.",
        usage="tokenwire run [URL [CHANNEL]] [OPTION ...] -- PROGRAM [ARGUMENT ...]",
        epilog="URL is the backend (default: $TOKENWIRE_URL), CHANNEL that of all that the program"
        " itself gives none (default: $TOKENWIRE_CHANNEL).",
    )
    parser.add_argument("--to", metavar="URL", help="the URL of the backend, as an option")
    parser.add_argument("--channel", metavar="NAME", help="the channel, as an option")
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
    parser.add_argument(
        "--proxy",
        choices=("auto", "always", "never"),
        default="auto",
        help="through the proxy: what is not Python; everything, Python too; or nothing"
        " (default: auto)",
    )
    parser.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="NAME=URL",
        help="one more server that the proxy leads to, at $TOKENWIRE_PROXY/NAME; may be repeated",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the program and its arguments")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Start a program under ``tokenwire run``.

    On POSIX a Python program takes the place of this process, so signals and the exit status are
    its own, and this returns only when it cannot be started. Any other program is run beside a
    proxy, and is passed the signals that this process is sent.

    :param argv: without the command's name: ``["--to", URL, "--", "python", "a.py"]``.
    :return: an exit status: 2 for a wrong command line, 126 and 127 as a shell gives them.
    """
    try:
        args = _read(argv)
    except Failure as failure:
        return _complain(str(failure), 2)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 2
    command: list[str] = args.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        return _complain("name the program to run, after --", 2)
    url: str | None = args.to or os.environ.get("TOKENWIRE_URL")
    try:
        if url and url != "memory://":  # else the core need not be loaded here
            tokenwire.open_sink(url).close()  # reports a wrong URL now
    except (ValueError, ImportError) as error:
        return _complain(str(error), 2)
    if not url:
        _complain("no --to and no $TOKENWIRE_URL: tokens will stay inside the program", 0)
    program = resolve(command)
    if program is None:
        return _complain(f"{command[0]}: command not found", 127)
    base = dict(os.environ)
    restore_base_urls(base)  # of a `tokenwire run` that started this one
    env = environment(
        base,
        to=args.to,
        channel=args.channel,
        session_first=args.session_first,
        on_cancel=args.on_cancel,
        children=args.children,
        inject=args.proxy != "always",
    )
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if args.proxy == "always" or (args.proxy == "auto" and not is_python(program[0])):
            return _start_beside_proxy(program, env, args)
        return _start(program, env)
    except OSError as error:
        return _complain(f"{command[0]}: {error.strerror or error}", 126)
    except (Failure, ValueError) as error:
        return _complain(str(error), 2)


def _read(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line: the options, a URL and a channel before them or not, the program.

    :raises Failure: when it says something twice, or no ``--`` comes before the program.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    command: list[str] = args.command
    if not command or "://" not in command[0]:  # no program has such a name
        return args
    if "--" not in command:
        raise Failure("put -- before the program")
    at = command.index("--")
    (url, *rest), program = command[:at], command[at + 1 :]
    channel = rest.pop(0) if rest and not rest[0].startswith("-") else None
    # At the first positional argument argparse has left off reading options.
    args = parser.parse_args(rest, args)
    if args.command:
        raise Failure(f"put -- before the program, and nothing else: {args.command[0]}")
    args.command = program
    for option, value in (("to", url), ("channel", channel)):
        if value is not None:
            if getattr(args, option) is not None:
                raise Failure(f"--{option} is given twice")
            setattr(args, option, value)
    return args


def _start(program: list[str], env: dict[str, str]) -> int:
    """Start a Python program, on POSIX in place of this process.

    :raises OSError: when it cannot be started.
    """
    in_place = os.name == "posix"
    mark = "" if disabled(env) else published.add_mark(env, report_in_program=in_place)
    try:
        if in_place:
            os.execve(program[0], program, env)  # noqa: S606  (what the user asked for)
        import subprocess  # loaded where there is no exec

        status = subprocess.run(program, env=env, check=False).returncode  # noqa: S603
        published.report_if_nothing(mark)
        return status
    finally:
        published.remove_mark(mark)


def _start_beside_proxy(program: list[str], env: dict[str, str], args: argparse.Namespace) -> int:
    """Start a program that is pointed at a proxy; without it where that is not installed.

    :raises OSError: when it cannot be started.
    :raises Failure, ValueError: when the proxy cannot.
    """
    if disabled(env):
        return _start(program, env)
    try:
        from tokenwire_adapters._tools.cli.proxied_run import run_beside_proxy
    except ImportError as error:
        if args.proxy == "always":
            raise missing(error, "proxy") from error
        _complain(f"{missing(error, 'proxy')}: only programs of Python are seen", 0)
        return _start(program, env)
    return run_beside_proxy(
        program,
        env,
        tokenwire.open_sink(env.get("TOKENWIRE_URL")),
        channel=args.channel,
        on_cancel=args.on_cancel,
        upstreams=dict(text.partition("=")[::2] for text in args.upstream),
    )


def disabled(env: Mapping[str, str]) -> bool:
    """Whether ``$TOKENWIRE_DISABLED`` asks that nothing be published."""
    return env.get("TOKENWIRE_DISABLED", "").lower() not in ("", "0", "false")


def environment(
    base: Mapping[str, str],
    *,
    to: str | None = None,
    channel: str | None = None,
    session_first: bool = False,
    on_cancel: str | None = None,
    children: bool = False,
    inject: bool = True,
) -> dict[str, str]:
    """The environment in which a Python program publishes what its own models say.

    :param inject: False: it does not, but finds all the rest.
    """
    env = dict(base)
    if inject:
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
