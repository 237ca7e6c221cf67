"""Running something in a forked child of the test's own process."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

__all__ = ["forked"]


def forked(work: Callable[[], int]) -> int:
    """Fork, run `work` in the child, and return the exit status that it gave; 1 if it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there are threads, as there will be
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
