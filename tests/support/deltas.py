"""Texts, and the deltas that a reader may meet them as: repeated, overlapping, late, with holes.

For the property tests of every reducer: `tokenwire.response`, tokenwire.js and the Lua scripts.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from tokenwire.events import DeltaEvent

# What tells code points, UTF-16 and bytes apart.
PIECES = [
    "a",
    " the",
    "\n",
    "é",
    "e\u0301",
    "茶",
    "🙂",
    "👩🏽\u200d🍳",
    "\U0010ffff",
    "",
    "\u2028",
    "مرحبا",
]


def texts(*, max_pieces: int = 5) -> st.SearchStrategy[str]:
    """Short texts of unlike characters."""
    return st.lists(st.sampled_from(PIECES), max_size=max_pieces).map("".join)


@st.composite
def cuts(draw: st.DrawFn, text: str) -> list[tuple[int, str]]:
    """Cut `text` into (offset, piece) pairs that come in any order, overlap and repeat.

    In one of four draws some are left out, so that there may be holes.
    """
    bounds = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=6))})
    pieces = [
        (max(0, begin - draw(st.integers(0, 3))), min(len(text), end + draw(st.integers(0, 3))))
        for begin, end in pairwise(bounds)
    ]
    pieces += draw(st.lists(st.sampled_from(pieces), max_size=3)) if pieces else []
    order = draw(st.sampled_from(["given", "late", "any"]))
    if order == "late" and len(pieces) > 1:
        at = draw(st.integers(0, len(pieces) - 2))
        pieces[at], pieces[at + 1] = pieces[at + 1], pieces[at]
    elif order == "any":
        pieces = draw(st.permutations(pieces))
    if draw(st.integers(0, 3)) == 0:
        pieces = [piece for piece in pieces if draw(st.integers(0, 3))]
    return [(begin, text[begin:end]) for begin, end in pieces]


@st.composite
def deltas(
    draw: st.DrawFn, response_id: str = "r", *, part: int = 0, kind: str = "text"
) -> tuple[str, list[DeltaEvent]]:
    """A text, and deltas of it as `cuts` makes them."""
    text = draw(texts())
    return text, [
        DeltaEvent(response_id=response_id, part=part, kind=kind, offset=offset, text=piece)
        for offset, piece in draw(cuts(text))
    ]
