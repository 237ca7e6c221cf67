"""docs/testing.md, word for word: its tests are a user's, in a folder of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import needs
from tests.support.pages import code_blocks
from tests.support.plugins import LEAN

needs("openai", "ably", "websockets")

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")
MARKS = {
    "agent": "def run_my_agent(question)",
    "faults": "tokenwire_faults.publish(",
    "provider": "def test_the_agent_retries_and_calls_the_tool(",
    "ably": "from tokenwire_adapters.testing.ably import",
}
BLOCKS = {
    name: block
    for name, mark in MARKS.items()
    for block in code_blocks(PAGE, "python")
    if mark in block
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tests"), [("agent", 1), ("faults", 1), ("provider", 2), ("ably", 2)]
)
def test_the_tests_of_the_page_pass(name: str, tests: int, tmp_path: Path) -> None:
    (tmp_path / f"test_{name}.py").write_text(BLOCKS[name], "utf-8")
    result = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", *LEAN, "--rootdir=."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{tests} passed" in result.stdout
