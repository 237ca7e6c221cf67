"""The project's pages, as far as tests read them."""

from __future__ import annotations

import re
import textwrap

__all__ = ["apply_diff", "code_blocks", "only_block", "saved_file"]


def code_blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages, in order."""
    names = "|".join(map(re.escape, languages))
    blocks = re.findall(rf"^( *)```(?:{names})\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in blocks]


def only_block(text: str, language: str, *, containing: str) -> str:
    """The one code block of that language that contains the text."""
    found = [code for code in code_blocks(text, language) if containing in code]
    assert len(found) == 1, f"{len(found)} blocks contain {containing!r}"
    return found[0]


def saved_file(text: str, name: str, language: str) -> str:
    """The code block that a page tells its reader to save under that name."""
    found = re.findall(
        rf"^Save this as `{re.escape(name)}`[^\n]*:\n\n```{language}\n(.*?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    assert len(found) == 1, f"{len(found)} blocks are saved as {name}"
    return str(found[0])


def apply_diff(code: str, diff: str) -> str:
    """Change code as a page's ``diff`` block says, whose lines all stand next to each other."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    assert code.count(before) == 1, f"not once in the code: {before}"
    return code.replace(before, after)
