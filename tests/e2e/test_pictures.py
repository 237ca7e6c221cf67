"""The pictures of the pages: up to date, legible in both schemes, with words beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext

ROOT = Path(__file__).parents[2]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
IDS = [path.stem for path in PICTURES]

# Of every text: the corners, its contrast with what lies below it, and the box that it is in.
MEASURE = """() => {
  const channel = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map((value) => channel(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = document.querySelector(".back");
  return [...document.querySelectorAll("text")].map((text) => {
    const box = text.parentElement.querySelector(":scope > rect:not(.back)") ?? back;
    const inner = text.getBoundingClientRect(), outer = box.getBoundingClientRect();
    const [light, dark] = [getComputedStyle(text).fill, getComputedStyle(box).fill]
      .map(luminance).sort((a, b) => b - a);
    return {
      words: text.textContent,
      contrast: (light + 0.05) / (dark + 0.05),
      inside: inner.left >= outer.left && inner.right <= outer.right
        && inner.top >= outer.top && inner.bottom <= outer.bottom,
      place: [inner.left, inner.top, inner.right, inner.bottom],
    };
  });
}"""


def test_they_are_up_to_date() -> None:
    script = ROOT / "docs" / "draw_pictures.py"
    check = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
    assert len(PICTURES) == 4


@pytest.mark.parametrize("picture", PICTURES, ids=IDS)
def test_pages_say_in_words_what_is_on_them(picture: Path) -> None:
    pages = [page.read_text("utf-8") for page in ROOT.glob("docs/*.md")]
    words = [
        alt for page in pages for alt in re.findall(rf"!\[(.*)\]\(pictures/{picture.name}\)", page)
    ]
    assert words, "no page shows it"
    assert all(len(alt) > 80 for alt in words)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("picture", PICTURES, ids=IDS)
def test_text_is_legible(
    context: BrowserContext, open_page: Callable[[str], Any], picture: Path, scheme: Any
) -> None:
    page = open_page(picture.as_uri())
    page.emulate_media(color_scheme=scheme)
    texts = page.evaluate(MEASURE)
    assert len(texts) > 8
    for text in texts:
        assert text["contrast"] >= 4.5, text
        assert text["inside"], text
    for one, other in combinations(texts, 2):
        (left, top, right, bottom), (x0, y0, x1, y1) = one["place"], other["place"]
        # Lines of a box may touch: their letters do not.
        apart = right <= x0 or x1 <= left or bottom <= y0 + 2 or y1 <= top + 2
        assert apart, f"{one['words']!r} lies on {other['words']!r}"
