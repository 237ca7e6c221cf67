"""Results of the rows: one file for each while they run, and one of all, which makes the table."""

import json
import os
from pathlib import Path
from typing import Any

from tests.ecosystem.environments import ROOT
from tests.ecosystem.rows import ROWS, Row

__all__ = ["COLLECTED", "collect", "put_result"]

_KEYS = ("version", "seen", "cancel")
COLLECTED = Path(__file__).with_name("results.json")


def put_result(row: Row, kind: str, version: str, differences: list[str]) -> None:
    """Keep a result.

    :param kind: ``seen`` or ``cancel``.
    :param differences: none where all agrees.
    """
    file = _folder() / f"{row.slug}.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if kept.get("version") != version:
        kept = {"version": version}
    # Long outputs of programs are for the test's report, not for the repository.
    kept[kind] = [difference.splitlines()[0][:200] for difference in differences]
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(kept))
    partial.replace(file)


def collect() -> None:
    """Put the results of the rows that ran into `COLLECTED`; keep those of rows that did not."""
    collected: dict[str, Any] = json.loads(COLLECTED.read_text()) if COLLECTED.exists() else {}
    for row in ROWS:
        file = _folder() / f"{row.slug}.json"
        if file.exists():
            result = json.loads(file.read_text())
            # In the same order whichever test ended first, so that nothing changes in the file.
            collected[row.slug] = {key: result[key] for key in _KEYS if key in result}
    wanted = {row.slug: collected[row.slug] for row in ROWS if row.slug in collected}
    COLLECTED.write_text(json.dumps(wanted, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _folder() -> Path:
    default = str(ROOT / ".cache" / "ecosystem" / "results")
    folder = Path(os.environ.get("TOKENWIRE_TEST_RESULTS", default))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
