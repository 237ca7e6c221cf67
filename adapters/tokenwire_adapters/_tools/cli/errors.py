"""Errors of the command line."""

from __future__ import annotations

__all__ = ["Failure", "missing"]


class Failure(Exception):
    """A message for the person at the terminal, and the exit status.

    :ivar status: 2 for a wrong command line, else 1.
    """

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def missing(error: ImportError, extra: str = "cli") -> Failure:
    """Say which command installs what is missing; a message that says so already is kept."""
    if "pip install" in str(error):
        return Failure(str(error))
    name = error.name or str(error)
    return Failure(f'{name} is not installed: pip install "tokenwire[{extra}]"')
