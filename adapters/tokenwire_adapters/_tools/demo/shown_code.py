"""The code that the page shows beside the screens: read from the functions that run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from tokenwire_adapters._tools.demo.agent import stream_turn
from tokenwire_adapters._tools.demo.wiring import answer_in, publish

__all__ = ["SHOWN", "ShownCode", "shown_code"]


class ShownCode(NamedTuple):
    """Functions under a heading.

    :ivar title: the heading.
    :ivar functions: in the order in which they are shown.
    """

    title: str
    functions: tuple[Callable[..., Any], ...]


SHOWN = (
    ShownCode("The agent: OpenAI's SDK, nothing else", (stream_turn,)),
    ShownCode("What tokenwire adds: two lines", (publish, answer_in)),
)


def shown_code() -> list[dict[str, str]]:
    """The title, the file and the source of each piece.

    Empty where Python was installed without its sources.
    """
    try:
        return [
            {
                "title": title,
                "file": f"{functions[0].__module__.replace('.', '/')}.py",
                "code": "\n\n".join(inspect.getsource(function).rstrip() for function in functions),
            }
            for title, functions in SHOWN
        ]
    except OSError:
        return []
