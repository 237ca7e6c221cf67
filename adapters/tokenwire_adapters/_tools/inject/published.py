"""Whether anything was published under ``tokenwire run``, by whichever of its processes.

The command creates an empty file, and the first process that begins a response removes it. What
is still there at the end says that nothing was published.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import MutableMapping

from tokenwire_adapters._agents.imports import watch_imports

__all__ = [
    "add_mark",
    "remove_mark",
    "remove_mark_on_response",
    "remove_on_response",
    "report_at_exit",
    "report_if_nothing",
]

_MARK = "TOKENWIRE_RUN_MARK"
_REPORTER = "TOKENWIRE_RUN_PID"
_MESSAGE = (
    b"tokenwire run: no response was published;"
    b" `tokenwire doctor` lists which SDKs and HTTP clients are read\n"
)


def add_mark(env: MutableMapping[str, str], *, report_in_program: bool) -> str:
    """Create the file, and name it in the environment of a program that is about to start.

    :param report_in_program: the program takes this process's place, and reports at its exit.
    :return: the path of the file.
    """
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix="tokenwire-run-")
    os.close(descriptor)
    env[_MARK] = path
    env.pop(_REPORTER, None)
    if report_in_program:
        env[_REPORTER] = str(os.getpid())
    return path


def remove_mark_on_response() -> None:
    """Remove the file that the environment names once this process begins a response."""
    path = os.environ.get(_MARK)
    if path:
        remove_on_response(path)


def remove_on_response(path: str) -> None:
    """Remove the file once this process, or a fork of it, begins a response.

    The core is not loaded for that: a program that never loads it begins none.
    """

    def register() -> None:
        from tokenwire._lifetime import first_response_callbacks

        first_response_callbacks.append(lambda: remove_mark(path))

    watch_imports({"tokenwire._lifetime": register})


def report_at_exit() -> None:
    """Report at the exit of this process, if it is the one that ``tokenwire run`` started."""
    path = os.environ.get(_MARK)
    if path and os.environ.pop(_REPORTER, None) == str(os.getpid()):
        atexit.register(_report_in, os.getpid(), path)


def _report_in(process: int, path: str) -> None:
    if process == os.getpid():  # a fork inherits the exit handlers
        report_if_nothing(path)


def report_if_nothing(path: str) -> None:
    """Write one line to stderr if the file is still there, and remove it. Never raises."""
    if remove_mark(path):
        with contextlib.suppress(OSError):
            os.write(2, _MESSAGE)  # not by `sys.stderr`: an error there changes the exit status


def remove_mark(path: str) -> bool:
    """Remove the file; return whether it was there."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
