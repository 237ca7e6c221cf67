"""The documentation that is installed with the package: README.md, and the pages of ``docs``."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path

import tokenwire

__all__ = ["documents"]

_INSTALLED = "share/doc/tokenwire/"


@cache
def documents() -> dict[str, Path]:
    """The pages by their paths, such as ``README.md`` and ``docs/cli.md``.

    An installed wheel has them in ``share/doc``, an editable installation in its checkout. Empty
    where there are none.
    """
    try:
        files = importlib.metadata.files("tokenwire") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    pages = {
        file.as_posix().partition(_INSTALLED)[2]: Path(str(file.locate()))
        for file in files
        if _INSTALLED in file.as_posix() and file.suffix == ".md"
    }
    return pages or _pages_of_checkout(Path(tokenwire.__file__).parents[2])


def _pages_of_checkout(root: Path) -> dict[str, Path]:
    readme = root / "README.md"
    if not readme.is_file() or not (root / "pyproject.toml").is_file():
        return {}
    pages = (readme, *root.glob("docs/*.md"), *root.glob("docs/how-to/*.md"))
    return {path.relative_to(root).as_posix(): path for path in pages}
