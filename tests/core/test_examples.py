"""The examples that need no extra run as they are, without a warning."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_quickstart_shows_every_token_on_both_screens() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "quickstart.py")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    lines = run.stdout.splitlines()
    assert lines[-1] == "history: Every token, on every screen."
    for name in ("phone", "laptop, which came late"):
        mine = [line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")]
        assert mine.pop() == "complete"
        shown = "".join(piece.removesuffix(" so far").strip("'") for piece in mine)
        assert shown == "Every token, on every screen."
    assert run.stderr == ""
