"""What runs once nothing holds an object any more."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What runs in an interpreter that ends has its names no more, so that `write` is an argument. The
# module stays alive until its names are taken away, and with them the object.
PROGRAM = """
import __main__, os, sys
from tokenwire._instrument.deferred import when_dropped

class Thing: pass

sys.main = __main__
_kept, dropped = Thing(), Thing()
when_dropped(_kept, lambda write=os.write: write(1, b"the interpreter ended "))
when_dropped(dropped, lambda write=os.write: write(1, b"dropped "))
del dropped
os.write(1, b"at the end ")
"""


@pytest.mark.parametrize("leave", ["", "raise SystemExit", "raise ValueError"])
def test_it_runs_when_the_object_goes_and_not_when_the_interpreter_ends(leave: str) -> None:
    command = [sys.executable, "-c", PROGRAM + leave]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "dropped at the end "
    assert done.stderr == "" or leave == "raise ValueError"
