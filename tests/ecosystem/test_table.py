"""The table of `docs/compatibility.md`, without running its rows."""

import json

from tests.ecosystem.results import COLLECTED
from tests.ecosystem.rows import ROWS
from tests.ecosystem.running import SCRIPTS
from tests.ecosystem.table import PAGE, page_with_table


def test_the_page_has_the_table_of_the_last_results():
    page = PAGE.read_text("utf-8")
    assert page_with_table(page) == page, "run `python -m tests.ecosystem.table`"


def test_the_results_are_those_of_the_rows():
    assert json.loads(COLLECTED.read_text("utf-8")).keys() <= {row.slug for row in ROWS}


def test_each_row_has_a_name_and_a_script_of_its_own():
    assert len({row.slug for row in ROWS}) == len(ROWS) >= 35
    assert len({(row.script, row.arguments, row.requires) for row in ROWS}) == len(ROWS)
    assert {row.script for row in ROWS} <= {file.name for file in SCRIPTS.iterdir()}


def test_a_row_that_says_no_says_why():
    for row in ROWS:
        for value in (row.tools, row.reasoning, row.usage):
            assert value is True or value
