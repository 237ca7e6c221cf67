"""The recipes for Vue and Svelte in docs/react.md, in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import tokenwire
from tests.e2e.screens import TIMEOUT
from tests.npm.package import ROOT, bundle, esbuild, run, with_package
from tests.npm.site import site
from tests.support.pages import code_blocks

pytestmark = [pytest.mark.slow, pytest.mark.browser]

PAGES = Path(__file__).parent / "pages"


def recipe(name: str) -> str:
    blocks = code_blocks((ROOT / "docs" / "react.md").read_text("utf-8"), "js")
    (block,) = [block for block in blocks if f"function {name}(" in block]
    return block


def vue(folder: Path) -> str:
    define = [f"--define:__VUE_{name}__=false" for name in ("PROD_DEVTOOLS", "OPTIONS_API")]
    mismatch = "--define:__VUE_PROD_HYDRATION_MISMATCH_DETAILS__=false"
    return bundle("vue.js", *define, mismatch, before=recipe("useChannel"))


def svelte(folder: Path) -> str:
    node = with_package()
    (folder / "watch.js").write_text(recipe("watch"), encoding="utf-8")
    script = node.write("svelte.mjs", (PAGES / "svelte.mjs").read_bytes())
    run(node.executable, script, PAGES / "Texts.svelte", folder)
    return esbuild(folder / "page.js", "--bundle", "--format=esm", "--conditions=svelte,browser")


@pytest.mark.parametrize("script_of", [vue, svelte])
def test_shows_what_its_channel_has_and_nothing_else(
    open_page: Callable[[str], Page], tmp_path: Path, script_of: Callable[[Path], str]
) -> None:
    with tokenwire.open_sink(tokenwire.MemoryBackend(), strict=True) as sink:
        with sink.respond("a") as response:
            response.write("of a")
        with site(sink, script_of(tmp_path)) as url:
            page = open_page(url)
            paragraph = page.locator("p")
            expect(paragraph).to_have_text("of a", timeout=TIMEOUT)
            page.get_by_role("button", name="b").click()
            expect(paragraph).to_have_text("", timeout=TIMEOUT)
            with sink.respond("b") as response:
                response.write("of ")
                expect(paragraph).to_have_text("of ", timeout=TIMEOUT)
                response.write("b")
                expect(paragraph).to_have_text("of b", timeout=TIMEOUT)
            page.get_by_role("button", name="a").click()
            expect(paragraph).to_have_text("of a", timeout=TIMEOUT)
