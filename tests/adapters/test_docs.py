"""The pages: their Python compiles, its imports of ours are there, their links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from tests.support.needs import needs
from tests.support.pages import code_blocks

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("examples/**/*.md"),
    *ROOT.glob("benchmarks/*.md"),
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

ADAPTED = ("openai", "anthropic", "redis", "ably", "langchain_core", "starlette", "ag_ui")


def anchor(heading: str) -> str:
    """As GitHub makes them."""
    kept = re.sub(r"[^\w\- ]", "", re.sub(r"`", "", heading.lower()))
    return kept.strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python(page: Path) -> None:
    needs(*ADAPTED, "llama_index.core")
    for code in code_blocks(page.read_text("utf-8"), "python", "py"):
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(code, str(page), "exec", flags)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tokenwire"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "tokenwire"
            ):
                assert hasattr(importlib.import_module("tokenwire"), node.attr), node.attr


def test_the_readme_names_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (line,) = re.findall(
        r"^Extras: .*?\. ", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert set(re.findall(r"`([^`]+)`", line)) == set(project["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        linked = page if not path else (page.parent / path)
        assert linked.exists(), f"{target} is not there"
        if fragment and linked.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{target}: no such heading"
