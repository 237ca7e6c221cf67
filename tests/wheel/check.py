"""Check the installed wheel. Runs in an environment that holds the wheel and msgspec, no more.

Every public module of the core is imported, every public name looked up and every doctest run.
Modules of the adapters either import, or say which extra is missing.
"""

import doctest
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
from types import ModuleType

DISTRIBUTION = "tokenwire"
# Only pytest loads this one, so it is never imported without pytest.
LOADED_BY_PYTEST = {"tokenwire_adapters.pytest_plugin"}
HINT = re.compile(r'pip install "tokenwire\[[a-z-]+(,[a-z-]+)*\]"')
failures: list[str] = []


def expect(condition: object, complaint: str) -> None:
    if not condition:
        failures.append(complaint)


def modules(package: ModuleType) -> list[str]:
    members = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [package.__name__, *(module.name for module in members)]


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def check_metadata() -> None:
    metadata = importlib.metadata.metadata(DISTRIBUTION)
    expect(metadata["License-Expression"] == "Apache-2.0", "no licence in the metadata")
    files = [str(file) for file in importlib.metadata.files(DISTRIBUTION) or ()]
    for name in (
        "tokenwire/py.typed",
        "tokenwire_adapters/py.typed",
        "tokenwire_adapters/_static/tokenwire.js",
        "tokenwire_adapters/_static/tokenwire-tab-lines.js",
        "tokenwire_adapters/_static/tokenwire-tabs.js",
        "tokenwire_adapters/_static/tokenwire.d.ts",
        "tokenwire_adapters/_static/ai-sdk-message.js",
        "tokenwire_adapters/_static/ai-sdk.js",
        "tokenwire_adapters/_static/ai-sdk.d.ts",
        "tokenwire_adapters/_static/demo/index.html",
        "share/doc/tokenwire/README.md",
        "share/doc/tokenwire/docs/cli.md",
        "licenses/LICENSE",
    ):
        expect(any(file.endswith(name) for file in files), f"{name} is not installed")


def check_core() -> int:
    before = set(sys.modules)
    core = importlib.import_module("tokenwire")
    expect(core.__version__ == importlib.metadata.version(DISTRIBUTION), "two versions")
    third_party = third_parties(set(sys.modules) - before) - {"msgspec"}
    expect(not third_party, f"importing the core imports {sorted(third_party)}")
    examples = 0
    for name in modules(core):
        module = importlib.import_module(name)
        if is_public(name):
            expect(getattr(module, "__all__", None), f"{name} has no __all__")
        for public in getattr(module, "__all__", ()):
            expect(hasattr(module, public), f"{name}.{public} is in __all__ but does not exist")
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
        expect(not result.failed, f"{result.failed} doctests of {name} fail")
        examples += result.attempted
    return examples


def check_adapters() -> tuple[int, int]:
    adapters = importlib.import_module("tokenwire_adapters")
    imported = missing = 0
    for name in filter(is_public, modules_of(adapters, "tokenwire_adapters.testing")):
        if name in LOADED_BY_PYTEST:
            continue
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing += 1
            expect(HINT.search(str(error)), f"{name} does not name its extra: {error!r}")
            expect(error.__cause__, f"the ImportError of {name} has no cause")
        else:
            imported += 1
    return imported, missing


def modules_of(package: ModuleType, *subpackages: str) -> list[str]:
    """Name the modules directly in a package and in subpackages of it, without importing them."""
    paths = {package.__name__: list(package.__path__)}
    for name in subpackages:
        spec = importlib.util.find_spec(name)
        paths[name] = list(spec.submodule_search_locations or ()) if spec else []
    return [
        f"{name}.{module.name}"
        for name, path in paths.items()
        for module in pkgutil.iter_modules(path)
    ]


def third_parties(names: set[str]) -> set[str]:
    tops = {name.partition(".")[0] for name in names}
    return {
        top
        for top in tops - sys.stdlib_module_names - {"tokenwire", "tokenwire_adapters"}
        if top in importlib.metadata.packages_distributions()
    }


def check_entry_points() -> int:
    count = 0
    for entry in importlib.metadata.distribution(DISTRIBUTION).entry_points:
        count += 1
        spec = importlib.util.find_spec(entry.module)
        expect(spec, f"entry point {entry.group}:{entry.name} names no module: {entry.value}")
    return count


def main() -> None:
    check_metadata()
    examples = check_core()
    imported, missing = check_adapters()
    entries = check_entry_points()
    for failure in failures:
        print("FAILED:", failure)
    print(
        f"{examples} doctest examples; {imported} adapters import without an extra, "
        f"{missing} name the one they need; {entries} entry points"
    )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
