"""Runs before a program that `tokenwire run` starts: listens, then gets out of the way.

Python's ``site`` imports the first ``sitecustomize`` on the path. This is it; the one that it
stands before, if there is one, is run next, and the path is as it was.
"""

import importlib
import os
import sys


def _leave_the_path() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    if os.environ.get("TOKENWIRE_RUN_CHILDREN") == "1":
        return  # Python programs that this one starts find the folder in their environment
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [entry for entry in entries if entry and os.path.abspath(entry) != here]
    if kept:
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)
    else:
        os.environ.pop("PYTHONPATH", None)


def _run_the_next() -> None:
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


def _listen() -> None:
    try:
        from tokenwire_adapters import auto

        auto.install()
    except Exception as error:  # the program comes first
        sys.stderr.write(f"tokenwire: not listening: {type(error).__name__}: {error}\n")


_leave_the_path()
_listen()
_run_the_next()
