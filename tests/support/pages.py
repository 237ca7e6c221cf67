"""The project's pages, as far as tests read them."""

from __future__ import annotations

import re
import textwrap

__all__ = ["code_blocks"]


def code_blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages, in order."""
    names = "|".join(map(re.escape, languages))
    blocks = re.findall(rf"^( *)```(?:{names})\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in blocks]
