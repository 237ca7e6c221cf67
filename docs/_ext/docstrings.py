"""The docstrings' plain text as reStructuredText: code is indented, names are in backticks."""

from __future__ import annotations

import inspect
import re
from typing import Any

__all__ = ["process_docstring"]

# A literal, which may go on in the next line; or a name.
QUOTED = re.compile(r"``.+?``|(?<![`:\w])`([^`]+)`(?![`_])", re.DOTALL)
# Public functions whose bare names mean an attribute or a parameter, wherever they stand.
ATTRIBUTES = frozenset({"channel", "run"})
LIST_OR_FIELD = re.compile(r"\s*([-*]|\d+\.|:[a-z]\w*.*:|\.\.)(\s|$)")


def process_docstring(
    full_name: str, value: Any, lines: list[str], documented: dict[str, str]
) -> None:
    """Rewrite `lines`: indented blocks become code, and names links where they are documented."""
    lines[:] = with_code_blocks(lines)
    parameters = parameters_of(value)

    def linked(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0]
        if name not in parameters and (home := resolved(name, full_name, documented)):
            return f":py:obj:`{name} <{home}>`"
        return f"``{name}``"

    # Code blocks are left alone: their lines are indented.
    text = "\n".join(lines)
    blocks = re.split(r"(^::\n\n(?:[ ]+.*\n|\n)*)", text, flags=re.MULTILINE)
    lines[:] = "".join(
        block if block.startswith("::\n") else QUOTED.sub(linked, block) for block in blocks
    ).split("\n")


def resolved(name: str, context: str, documented: dict[str, str]) -> str | None:
    """What a name stands for in the docstring of `context`, from the inside outwards."""
    name = name.removesuffix("()")
    if name in ATTRIBUTES:
        return None
    scopes = context.split(".")
    for depth in range(len(scopes), 0, -1):
        if found := documented.get(".".join([*scopes[:depth], name])):
            return found
    return documented.get(name) or documented.get(f"tokenwire.{name}")


def parameters_of(value: Any) -> frozenset[str]:
    """The parameters' names: in its docstring they are no links to others of that name."""
    if not callable(value):
        return frozenset()
    try:
        return frozenset(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return frozenset()


def with_code_blocks(lines: list[str]) -> list[str]:
    """Mark each indented block after an empty line as code, unless a list or a field goes on."""
    result: list[str] = []
    before = ""  # the last line of text that is not indented
    in_code = False
    for line in lines:
        indented = line.startswith(" ")
        if line and not indented:
            before, in_code = line, False
        elif line and result and not result[-1] and not in_code:
            if before and not LIST_OR_FIELD.match(before) and not before.endswith("::"):
                result += ["::", ""]
            in_code = True
        result.append(line)
    return result
