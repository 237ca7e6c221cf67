"""The core imports the standard library and msgspec, nothing else, not even inside a function."""

import ast
import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tokenwire
from tests.support.modules import modules_loaded

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
    # What msgspec takes along is not ours to answer for.
    loaded = modules_loaded("from tokenwire import *", beyond="import msgspec")
    assert {name.partition(".")[0] for name in loaded} <= ALLOWED


SLOW = {"email", "hmac", "importlib.metadata", "json", "secrets", "tempfile", "zipfile"}
"""Modules of the standard library that take long to import, and that few programs need of us."""


def test_importing_the_core_loads_no_slow_module() -> None:
    code = (
        "import sys, msgspec; before = set(sys.modules); from tokenwire import *; "
        "print(*set(sys.modules) - before)"
    )
    # Isolated, and without site: a finder of editable installs would load some of them.
    path = f"sys.path += {sys.path!r}"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; {path}; {code}"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "tokenwire.sink" in run.stdout.split()
    assert not SLOW & set(run.stdout.split())


def test_importing_the_package_alone_loads_nothing_else() -> None:
    loaded = modules_loaded("import tokenwire")
    ours = {name for name in loaded if name.partition(".")[0] == "tokenwire"}
    assert ours == {"tokenwire", "tokenwire._version"}
    assert not {"asyncio", "msgspec"} & loaded


def test_an_error_class_loads_neither_backend_nor_event_loop() -> None:
    loaded = modules_loaded("from tokenwire import TokenwireError")
    assert "tokenwire.errors" in loaded
    assert not {"asyncio", "msgspec", "tokenwire.sink", "tokenwire.memory"} & loaded


def static_names() -> dict[str, str]:
    """The names that type checkers see in the package, each with the module that it comes from."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tokenwire.")
        for alias in node.names
    }


def test_names_are_those_that_type_checkers_see() -> None:
    names = static_names()
    assert set(names) == set(tokenwire.__all__)
    assert set(names) <= set(dir(tokenwire))
    for name, module in names.items():
        assert getattr(tokenwire, name) is getattr(importlib.import_module(module), name), name


def test_star_import_gives_every_name() -> None:
    namespace: dict[str, object] = {}
    exec("from tokenwire import *", namespace)
    assert set(tokenwire.__all__) <= set(namespace)


def test_modules_are_attributes_without_an_import_of_their_own() -> None:
    modules = sorted({module.partition(".")[2] for module in static_names().values()})
    for module in {*modules, "claims"} - {"_version"}:
        loaded = modules_loaded(f"import tokenwire; tokenwire.{module}.__all__")
        assert f"tokenwire.{module}" in loaded


def test_what_is_no_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tokens'"):
        _ = tokenwire.tokens  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_names_that_were_loaded_late_can_be_pickled() -> None:
    names = (tokenwire.Response, tokenwire.open_sink, tokenwire.GapError)
    assert pickle.loads(pickle.dumps(names)) == names
