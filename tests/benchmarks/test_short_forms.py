"""The short forms of benchmarks: whether they work, and what they say is exact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_the_soak_loses_nothing() -> None:
    size = ("--responses", "20", "--watchers", "40", "--keep", "4000")
    done = run("gateway_soak.py", "--minutes", "0.05", *size)
    assert done.returncode == 0, done.stderr[-2000:]
    figures: dict[str, Any] = json.loads(done.stdout)
    assert (figures["wrong"], figures["lost"]) == (0, 0)
    assert figures["responses"] >= 20
    assert figures["deliveries"] > 20 * 40


@pytest.mark.timeout(660)  # a minute and a half beside other work, on two cores
def test_the_suite_works(tmp_path: Path) -> None:
    done = run("suite.py", "--short", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    results: dict[str, Any] = json.loads((tmp_path / "results.json").read_text())
    assert set(results["growth"]) == {"watchers", "channels", "responses", "length"}
    rows = results["fan_out"]["10"]
    servers = {"gateway", "asgi", "joined", "bare", "naive", "nchan", "durable"}
    assert rows.keys() | (results["left_out"].keys() & servers) == servers
    assert {kind: row["complete"] for kind, row in rows.items()} == dict.fromkeys(rows, 10)
    assert all(row["exact"] == 2 for row in results["redis"].values())
    assert set(results["formats"]) == {"sse", "ws", "chat", "ag_ui"}
    assert all(row["ratio"] > 0 for row in results["formats"].values())
    assert "| sse |" in (tmp_path / "table.md").read_text()
