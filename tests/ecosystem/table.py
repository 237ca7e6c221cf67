"""Writes the table of `docs/compatibility.md`: ``python -m tests.ecosystem.table``.

With ``--check`` it writes nothing, and fails where the page differs from `results.json`.
"""

import json
import sys
from typing import Any

from tests.ecosystem.environments import ROOT
from tests.ecosystem.results import COLLECTED, collect
from tests.ecosystem.rows import ROWS, Row

__all__ = ["main", "page_with_table", "table"]

PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- table of the ecosystem: begin -->\n", "<!-- table of the ecosystem: end -->\n"
HEAD = "| package, way | version | seen by | text | tools | reasoning | usage | cancel |\n"
RULE = "| --- | --- | --- | --- | --- | --- | --- | --- |\n"


def table() -> str:
    """The table, from `results.json`."""
    results: dict[str, Any] = json.loads(COLLECTED.read_text("utf-8"))
    notes: list[str] = []
    lines = [_line(row, results.get(row.slug), notes) for row in ROWS]
    numbered = [f"{number}. {note}\n" for number, note in enumerate(notes, start=1)]
    return "".join([HEAD, RULE, *lines, "\n", *numbered])


def page_with_table(page: str) -> str:
    """The page with the table of now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _line(row: Row, result: dict[str, Any] | None, notes: list[str]) -> str:
    def mark(value: str, note: str | None) -> str:
        if note is None:
            return value
        if note not in notes:
            notes.append(note)
        return f"{value} ({notes.index(note) + 1})"

    if result is None:
        return f"| {row.name} | | {row.layer} | not run | | | | |\n"
    if row.known or result.get("seen"):
        failing = mark("differs", row.known or result["seen"][0])
        return f"| {row.name} | {result['version']} | {row.layer} | {failing} | | | | |\n"
    seen = mark("exact", row.own_requests) if "seen" in result else "not run"
    reasoning = seen if row.reasoning is True else mark("no", str(row.reasoning))
    tools = seen if row.tools is True else mark("no", str(row.tools))
    usage = seen if row.usage is True else mark("as asked", str(row.usage))
    if row.cancels:
        cancel = mark("no", row.cancels)
    elif row.known_of_cancel or result.get("cancel"):
        cancel = mark("differs", row.known_of_cancel or result["cancel"][0])
    else:
        cancel = "closes" if "cancel" in result else "not run"
    cells = [row.name, result["version"], row.layer, seen, tools, reasoning, usage, cancel]
    return f"| {' | '.join(cells)} |\n"


def main(arguments: list[str]) -> int:
    """Write the page, or check it."""
    page = PAGE.read_text("utf-8")
    if "--check" in arguments:
        if page_with_table(page) == page:
            return 0
        print("docs/compatibility.md is not what `python -m tests.ecosystem.table` writes")
        return 1
    collect()
    PAGE.write_text(page_with_table(page), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
