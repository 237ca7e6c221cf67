"""The texts of the provider: a few long pieces of Markdown, in the folder ``texts``.

``[[name]]`` marks a slot that `_text` fills from `SLOTS`. The pieces hold what breaks careless
streaming code: headings, nested lists, tables, fenced code with leading spaces, emoji made of
several code points, right-to-left text, CJK, accents both composed and combining, and long words.
"""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

__all__ = ["SLOTS", "TOPICS", "Topic"]


class Topic(NamedTuple):
    """One text, and the words in a prompt that select it."""

    name: str
    keywords: frozenset[str]
    text: str


SLOTS: dict[str, tuple[str, ...]] = {
    "keeper": ("Maëlle", "Anselm", "Íris", "Tomasz", "Zoë", "Bjørn"),
    "place": ("Skarðsvík", "the Île de Sein", "Cabo Polonio", "Ōma", "Świnoujście", "Fastnet"),
    "colour": ("amber", "silver", "pale green", "apricot", "cobalt", "rose"),
    "animal": ("a one-eyed cat 🐈", "a patient gull", "an old dog 🐕‍🦺", "two noisy geese"),
    "dish": ("a mushroom risotto 🍄", "a lemon tart 🍋", "a bowl of dan dan noodles 🍜"),
    "language": ("Python", "TypeScript", "Go", "Rust"),
    "city": ("Kraków", "Besançon", "København", "São Paulo", "Đà Nẵng", "Reykjavík"),
}

# The words in a prompt that choose a text.
_KEYWORDS = {
    "lighthouse": "story tale lighthouse sea keeper once fiction",
    "streaming": "stream streaming token tokens sse explain api http",
    "tea": "tea japan japanese chinese china language words",
    "kitchen": "recipe cook cooking dinner food eat kitchen",
    "bug": "bug code debug debugging python program test tests",
    "sky": "sky star stars space moon planet astronomy night",
    "journey": "travel train trains trip journey city holiday",
}
_FOLDER = files("tokenwire_adapters.testing.provider") / "texts"

TOPICS = tuple(
    Topic(name, frozenset(keywords.split()), (_FOLDER / f"{name}.md").read_text("utf-8"))
    for name, keywords in _KEYWORDS.items()
)
