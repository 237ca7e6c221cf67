"""Finds the program that a command line names, and whether it is one of Python."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence

__all__ = ["is_python", "resolve"]

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*t?w?(?:\.exe)?", re.IGNORECASE)
_SCRIPT_OF_PYTHON = re.compile(
    rb"#!.*(?:python|pypy).*|#!/bin/sh\r?\n'''exec' .*(?:python|pypy)", re.IGNORECASE
)


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


def is_python(program: str) -> bool:
    """Whether an executable is Python, or a script of Python, by its name or its first line.

    The second form of that is what pip writes where the path of Python is too long for a line.
    """
    if _PYTHON.fullmatch(os.path.basename(program)):
        return True
    try:
        with open(program, "rb") as file:
            return _SCRIPT_OF_PYTHON.match(file.read(1024)) is not None
    except OSError:
        return False
