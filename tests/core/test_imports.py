"""The core imports the standard library and msgspec, nothing else, not even inside a function."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tokenwire

ROOT = Path(tokenwire.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
ALLOWED = sys.stdlib_module_names | {"msgspec", "tokenwire"}


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the top-level packages that the code imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_the_core_may(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    assert set(imported(tree)) <= ALLOWED


def test_importing_the_core_loads_no_other_package() -> None:
    code = (
        # msgspec first: what it takes along is not ours to answer for.
        "import sys, msgspec; before = set(sys.modules); import tokenwire; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()) <= ALLOWED


SLOW = {"email", "hmac", "importlib.metadata", "json", "secrets", "tempfile", "zipfile"}
"""Modules of the standard library that take long to import, and that few programs need of us."""


def test_importing_the_core_loads_no_slow_module() -> None:
    code = (
        "import sys, msgspec; before = set(sys.modules); import tokenwire; "
        "print(*set(sys.modules) - before)"
    )
    # Isolated, and without site: a finder of editable installs would load some of them.
    path = f"sys.path += {sys.path!r}"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; {path}; {code}"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "tokenwire.sink" in run.stdout.split()
    assert not SLOW & set(run.stdout.split())
