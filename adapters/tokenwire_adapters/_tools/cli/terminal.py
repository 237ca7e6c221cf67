"""What people see of tables, progress and colours; plain where `rich` or a terminal is missing.

`rich` comes with the extra ``cli``. ``NO_COLOR`` (https://no-color.org) turns colours off.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Generator, Sequence
from typing import IO, Any, TextIO

from tokenwire_adapters._tools.cli.printer import harmless

__all__ = ["colours", "is_rich", "progress", "show_table"]

_LEAST_CLIPPED = 16  # columns of a terminal


def is_rich(out: IO[str]) -> bool:
    """Whether tables and live views can be drawn: `rich` is installed and `out` is a terminal."""
    if not out.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return importlib.util.find_spec("rich") is not None


def colours(out: IO[str]) -> bool:
    """Whether `out` is a terminal, and wants colours."""
    return out.isatty() and not os.environ.get("NO_COLOR")


def show_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO, *, clip_last: bool = False
) -> None:
    """Print rows: as a table in a terminal, else separated by tabs, without headings.

    :param clip_last: in a terminal, the last column has the room that the others leave.
    """
    harmless_rows = [[_one_line(cell) for cell in row] for row in rows]
    if not is_rich(out):
        out.writelines("\t".join(row) + "\n" for row in harmless_rows)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out)
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    texts = [[Text(cell) for cell in row] for row in harmless_rows]
    columns = list(zip(*([Text(heading) for heading in headings], *texts), strict=True))
    taken = sum(max(text.cell_len for text in column) + 2 for column in columns[:-1])
    for row in texts:
        if clip_last:
            row[-1].truncate(max(_LEAST_CLIPPED, console.width - taken), overflow="ellipsis")
        table.add_row(*row)
    console.print(table)


def _one_line(text: str) -> str:
    return " ".join(harmless(text).split())


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Generator[Callable[[int], Any]]:
    """Show on stderr how far a long job has come; nothing where that is no terminal.

    :param total: how much there is to do, where known.
    :return: a function that takes how much more is done.
    """
    if not is_rich(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *((BarColumn(), MofNCompleteColumn()) if total is not None else ()),
        *(() if total is not None else (TextColumn("{task.completed}"),)),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.update(task, advance=done)
