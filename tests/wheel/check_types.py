"""A consumer's project passes three type checkers: ``tox -e types``.

The name of this file keeps it out of a run of all tests, whose environments have no type checker.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONSUMER = Path(__file__).parent / "consumer" / "app.py"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["-m", "mypy", "--strict", "app.py"], id="mypy"),
        pytest.param(["-m", "pyright", "--pythonpath", sys.executable, "app.py"], id="pyright"),
        pytest.param(["-m", "ty", "check", "--python", sys.prefix, "app.py"], id="ty"),
    ],
)
def test_a_program_with_types_is_checked(command, tmp_path):
    shutil.copy(CONSUMER, tmp_path)
    (tmp_path / "pyproject.toml").write_text('[tool.pyright]\ntypeCheckingMode = "strict"\n')
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # And a mistake is seen, so that the names are typed, not unknown.
    app = tmp_path / "app.py"
    app.write_text(
        app.read_text("utf-8").replace("return response.wait(10)", "return 'no receipt'")
    )
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
