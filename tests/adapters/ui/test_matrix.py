"""The tables of what each client can do name tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[2]
FOLDERS = (TESTS / "adapters" / "ui", TESTS / "e2e")
PAGE = TESTS.parent / "docs" / "ui-protocols.md"


def test_each_row_of_the_tables_names_tests_that_there_are() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Which client can do what")[2]
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| ---") and not row.endswith("| tests |")]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(test_\w+)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            (path,) = (path for folder in FOLDERS if (path := folder / f"{file}.py").exists())
            source = path.read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), f"{file}::{test}"
