"""The tables of what each client can do name tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[2] / "docs" / "ui-protocols.md"


def test_each_row_of_the_tables_names_tests_that_there_are() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Which client can do what")[2]
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| ---") and "| tests (" not in row]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(test_\w+)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            source = (FOLDER / f"{file}.py").read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), f"{file}::{test}"
