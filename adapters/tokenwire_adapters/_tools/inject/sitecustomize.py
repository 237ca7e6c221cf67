"""Runs before a program that `tokenwire run` starts: installs the instrumentors.

Python's ``site`` imports the first ``sitecustomize`` on the path, which is this one. It then
restores the path and runs the next ``sitecustomize``, if there is one.
"""

import importlib
import os
import sys
from typing import Any


def _restore_path() -> None:
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != folder]
    if os.environ.get("TOKENWIRE_RUN_CHILDREN") == "1":
        return  # Python programs that this one starts find the folder in their environment
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    others = [entry for entry in entries if entry and os.path.abspath(entry) != folder]
    if others:
        os.environ["PYTHONPATH"] = os.pathsep.join(others)
    else:
        os.environ.pop("PYTHONPATH", None)


def _install() -> None:
    try:
        from tokenwire_adapters import auto
        from tokenwire_adapters._tools.inject import base_urls, published

        published.report_at_exit()
        published.remove_mark_on_response()
        on_cancel: Any = os.environ.get("TOKENWIRE_ON_CANCEL") or None  # checked by `install`
        auto.install(on_cancel=on_cancel)
        base_urls.restore_base_urls(os.environ)  # else the proxy would publish it, too
    except Exception as error:  # the program comes first
        if os.environ.get("TOKENWIRE_PROXY"):
            return  # a Python without tokenwire: the proxy publishes what it asks for
        sys.stderr.write(
            f"tokenwire: nothing is published: {type(error).__name__}: {error},"
            f" in {sys.executable}\n"
        )


def _run_next_sitecustomize() -> None:
    this_module = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
        if this_module is not None:
            sys.modules["sitecustomize"] = this_module


_restore_path()
_install()
_run_next_sitecustomize()
