"""A hook of hatch: the wheel has the pages of the documentation, not what makes a site of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSTALLED = "share/doc/tokenwire"  # below the environment; `tokenwire demo` shows it


class Documents(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        for pattern in ("README.md", "docs/*.md", "docs/how-to/*.md", "docs/pictures/*"):
            for page in root.glob(pattern):
                path = page.relative_to(root).as_posix()
                build_data["shared_data"][str(page)] = f"{INSTALLED}/{path}"
