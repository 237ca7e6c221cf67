"""Packages that may be missing: then a test is skipped with a reason, or fails where CI is set."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

__all__ = ["missing", "needs"]


def needs(name: str, *more: str) -> Any:
    """Import packages, and return the first; skip the test, or the module, without them.

    Of a ``conftest.py``, it skips the folder. On a build machine nothing is optional.
    """
    for module in (name, *more):
        try:
            importlib.import_module(module)
        except ImportError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(
                f"{module} is not installed ({error}): pip install -e '.[all]' --group dev-all",
                allow_module_level=True,
            )
    return importlib.import_module(name)


def missing(what: str) -> None:
    """Skip the test for want of a program, or fail where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
