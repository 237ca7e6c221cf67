"""Draws the packages and the arrows between them into docs/architecture.md, from the imports.

    python docs/draw_architecture.py            # write the drawings
    python docs/draw_architecture.py --check    # fail where they are not up to date

Floors come from the import linter's contracts in pyproject.toml, arrows from the imports (also
those for type checkers alone). An arrow that a longer way implies is left out. It needs `grimp`,
which comes with import-linter.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("tokenwire", "tokenwire_adapters")
# Packages of adapters whose members are drawn one by one; all others are one box.
WINGS = ("_agents", "_backends", "_web", "_tools", "testing")

Arrows = dict[str, set[str]]


def floors(package: str) -> list[list[str]]:
    """The floors of a package, top first, as the import linter holds them."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for contract in pyproject["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers" and contract.get("containers") == [package]:
            return [re.findall(r"\w+", layer) for layer in contract["layers"]]
    raise SystemExit(f"no contract of layers for {package} in pyproject.toml")


def box_of(module: str, package: str) -> str | None:
    """The box that a module belongs to; None for the package itself."""
    names = module.split(".")[1:]
    if not names:
        return None
    if package == "tokenwire_adapters" and names[0] in WINGS and len(names) > 1:
        return ".".join(names[:2])
    return names[0]


def arrows_of(package: str) -> Arrows:
    """Which box imports which."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=False)
    arrows: Arrows = {}
    for module in sorted(graph.modules):  # an `__init__` that imports nothing is no room
        box = box_of(module, package)
        if module.partition(".")[0] != package or box is None:
            continue
        if "." not in box and box in WINGS:
            continue
        targets = arrows.setdefault(box, set())
        for imported in graph.find_modules_directly_imported_by(module):
            target = box_of(imported, package)
            if imported.partition(".")[0] == package and target not in (None, box):
                targets.add(str(target))
    return arrows


def reachable(arrows: Arrows, start: str) -> set[str]:
    """All boxes that `start` imports, directly or not."""
    seen: set[str] = set()
    waiting = list(arrows.get(start, ()))
    while waiting:
        box = waiting.pop()
        if box not in seen:
            seen.add(box)
            waiting.extend(arrows.get(box, ()))
    return seen


def reduced(arrows: Arrows) -> Arrows:
    """Leave out each arrow that a longer way implies.

    :raises SystemExit: where boxes import each other in a circle.
    """
    below = {box: reachable(arrows, box) for box in arrows}
    circle = sorted(box for box in arrows if box in below[box])
    if circle:
        raise SystemExit(f"these import each other in a circle: {', '.join(circle)}")
    return {
        box: {t for t in targets if not any(t in below[other] for other in targets - {t})}
        for box, targets in arrows.items()
    }


def mermaid(package: str) -> Iterator[str]:
    """A flow chart: a frame for each floor, a box for each room, an arrow for each import."""
    arrows = reduced(arrows_of(package))
    layers = floors(package)
    placed = {name for layer in layers for name in layer}
    yield "flowchart TB"
    for number, layer in enumerate(layers):
        boxes = [box for box in sorted(arrows) if box.partition(".")[0] in layer]
        if boxes:
            yield f'  subgraph floor{number} [" "]'
            yield from (f'    {identifier(box)}["{box}"]' for box in boxes)
            yield "  end"
    yield from (
        f'  {identifier(box)}["{box}"]'
        for box in sorted(arrows)
        if box.partition(".")[0] not in placed
    )
    for box in sorted(arrows):
        yield from (f"  {identifier(box)} --> {identifier(t)}" for t in sorted(arrows[box]))


def identifier(box: str) -> str:
    """A name that the chart's language takes."""
    return "m_" + box.replace(".", "__")


def drawn(page: str, package: str, lines: Iterable[str]) -> str:
    """Put a chart between the marks of its package."""
    begin, end = f"<!-- drawing of {package}: begin -->", f"<!-- drawing of {package}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{PAGE.name} lacks the marks {begin} and {end}")
    chart = "\n".join(lines)
    return f"{before}{begin}\n```mermaid\n{chart}\n```\n{end}{after}"


def main(arguments: list[str]) -> int:
    """Draw, or with ``--check`` compare."""
    sys.path[:0] = [str(ROOT / "core"), str(ROOT / "adapters")]
    old = new = PAGE.read_text()
    for package in PACKAGES:
        new = drawn(new, package, mermaid(package))
    if "--check" in arguments:
        if new != old:
            print("docs/architecture.md is not up to date: run python docs/draw_architecture.py")
        return int(new != old)
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
