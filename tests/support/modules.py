"""What a program loads."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["modules_loaded"]


def modules_loaded(code: str, *, beyond: str | None = None) -> set[str]:
    """The names of the modules that a fresh Python has after some code.

    :param beyond: code before it, whose modules do not count, nor the interpreter's own.
    """
    before = "set()" if beyond is None else "set(sys.modules)"
    program = f"import sys\n{beyond or ''}\nbefore = {before}\n{code}\n"
    program += "print(*set(sys.modules) - before)"
    command = [sys.executable, "-c", program]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
