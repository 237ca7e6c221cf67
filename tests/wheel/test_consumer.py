"""A consumer's project passes three type checkers; completion offers public names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import needs
from tokenwire import MemoryBackend, Sink

CONSUMER = Path(__file__).parent / "consumer" / "app.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checker", "command"),
    [
        ("mypy", ["-m", "mypy", "--strict", "app.py"]),
        ("pyright", ["-m", "pyright", "--pythonpath", sys.executable, "app.py"]),
        ("ty", ["-m", "ty", "check", "--python", sys.prefix, "app.py"]),
    ],
)
def test_a_program_with_types_is_checked(checker, command, tmp_path):
    needs(checker)
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


def test_completion_offers_public_names():
    with Sink(MemoryBackend()) as sink, sink.respond("c") as response, sink.watch("c") as watch:
        for offered in (sink, response, watch, response.tool_call("f", "c1")):
            names = dir(offered)
            private = [name for name in names if name.startswith("_") and name[:2] != "__"]
            assert not private
            assert {"__class__", "__init__"} <= set(names)
            for name in names:
                getattr(offered, name)
        assert {"respond", "watch", "history", "delete_user", "backend"} <= set(dir(sink))
        assert {"write", "finish", "id", "state"} <= set(dir(response))
        assert {"open", "close", "cursor"} <= set(dir(watch))
