"""Hooks of hatch.

The wheel has the pages of the documentation, not what makes a site of them. A package index shows
README.md without the files that it links to: see `long_description`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

INSTALLED = "share/doc/tokenwire"  # below the environment; `tokenwire demo` shows it
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\((?![a-z]+:)([^)\s]+)\)\n*")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:)([^)\s]+)\)")


class Documents(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        for pattern in ("README.md", "docs/*.md", "docs/how-to/*.md", "docs/pictures/*"):
            for page in root.glob(pattern):
                path = page.relative_to(root).as_posix()
                build_data["shared_data"][str(page)] = f"{INSTALLED}/{path}"


class Description(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        readme = Path(self.root, "README.md").read_text("utf-8")
        source = metadata.get("urls", {}).get("Source")
        text = long_description(readme, source, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def long_description(readme: str, source: str | None, tag: str) -> str:
    """README.md for a package index.

    :param source: the address of the repository, on GitHub or a service with the same paths: links
        and pictures lead there. Without one, links become their text, and pictures are left out.
    :param tag: of this release.
    """

    def shown(text: str) -> str:
        if source is None:
            return LINK.sub(r"\1", PICTURE.sub("", text))
        text = PICTURE.sub(rf"![\1]({source}/raw/{tag}/\2)\n\n", text)
        return LINK.sub(rf"[\1]({source}/blob/{tag}/\2)", text)

    pieces = FENCED.split(readme)
    return "".join(piece if i % 2 else shown(piece) for i, piece in enumerate(pieces))
