"""The built site: the reference has every public name and no other; it works offline."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.needs import needs

pytestmark = pytest.mark.slow


def is_public(name: str) -> bool:
    return not any(
        part.startswith("_") and not part.endswith("__") for part in name.split(".")
    ) and not name.endswith("__main__")


def public_modules() -> list[ModuleType]:
    packages = [importlib.import_module(name) for name in ("tokenwire", "tokenwire_adapters")]
    return packages + [
        importlib.import_module(found.name)
        for package in packages
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if is_public(found.name)
    ]


@pytest.fixture(scope="module")
def inventory(site: Path) -> dict[str, str]:
    """The page and the anchor of each name of the reference, as other sites find them."""
    inventories = needs("sphinx.util.inventory")
    loaded = inventories.InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {
        name: item.uri
        for kind, items in loaded.data.items()
        if kind.startswith("py:")
        for name, item in items.items()
    }


def test_every_public_name_is_in_the_reference(inventory: dict[str, str]) -> None:
    names = {
        f"{module.__name__}.{name}"
        for module in public_modules()
        for name in getattr(module, "__all__", ())
    }
    assert len(names) > 300
    assert names - set(inventory) == set()


def test_every_public_module_is_in_the_reference(inventory: dict[str, str]) -> None:
    assert {module.__name__ for module in public_modules()} - set(inventory) == set()


def test_every_name_of_the_reference_is_public(inventory: dict[str, str]) -> None:
    modules = {module.__name__: module for module in public_modules()}
    for name in inventory:
        assert is_public(name), name
        module = max((m for m in modules if f"{name}.".startswith(f"{m}.")), key=len)
        value, rest = modules[module], name.removeprefix(module).strip(".")
        if rest:
            first, *members = rest.split(".")
            assert first in value.__all__, f"{name} is not in __all__"
            value = getattr(value, first)
            for member in members:
                value = getattr(value, member)


def test_every_name_leads_to_its_place(site: Path, inventory: dict[str, str]) -> None:
    anchors = {
        page: set(re.findall(r' id="([^"]+)"', (site / page).read_text("utf-8")))
        for page in {uri.partition("#")[0] for uri in inventory.values()}
    }
    for name, uri in inventory.items():
        page, _, anchor = uri.partition("#")
        assert anchor.replace("$", name) in anchors[page], name


def test_field_lists_are_rendered(site: Path) -> None:
    for page in site.glob("api/*.html"):
        text = re.sub(r"<[^>]+>", "", page.read_text("utf-8"))
        assert not re.findall(r":(?:param|raises|return|ivar)\b[^\n]{0,60}", text), page.name


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        if "_downloads" in page.parts:  # files of examples, which no page of the site shows
            continue
        text = page.read_text("utf-8")
        loads = r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=\"((?:https?:)?//[^\"]+)"
        links = r"<link\b[^>]*\bhref=\"((?:https?:)?//[^\"]+)"
        assert re.findall(loads, text) + re.findall(links, text) == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.findall(
            r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text("utf-8")
        ), sheet.name


def test_every_page_is_reachable_and_searchable(site: Path) -> None:
    index = (site / "searchindex.js").read_text("utf-8")
    home = (site / "index.html").read_text("utf-8")
    for page in Path(__file__).parents[2].glob("docs/*.md"):
        if page.stem != "index":
            assert f'href="{page.stem}.html"' in home, page.name
            assert f'"{page.stem}"' in index, page.name
