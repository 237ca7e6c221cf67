"""Pages of the repository that lie outside of ``docs``, and the links to them.

In the repository, ``docs/project/changelog.md`` is a link to CHANGELOG.md; on the site it has its
text. Links from and to such a file lead where they lead in the repository.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

__all__ = ["PAGES", "setup"]

ROOT = Path(__file__).parents[2]
PAGES = {
    "project/changelog": "CHANGELOG.md",
    "project/contributing": "CONTRIBUTING.md",
    "project/security": "SECURITY.md",
    "examples": "examples/README.md",
    "project/benchmarks": "benchmarks/README.md",
    "project/benchmarks-ably": "benchmarks/ably.md",
    "project/benchmarks-gateway": "benchmarks/gateway.md",
    "project/benchmarks-redis": "benchmarks/redis.md",
    "project/benchmarks-sqlite": "benchmarks/sqlite.md",
}
ON_SITE = {path: f"/{page}.md" for page, path in PAGES.items()}
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s#]+)")


def on_source_read(app: Sphinx, page: str, source: list[str]) -> None:
    """Put in the text of a file outside, and turn links that leave ``docs`` or come from there."""
    path = f"docs/{page}.md"
    if page in PAGES:
        path = PAGES[page]
        app.env.note_dependency(str(ROOT / path))
        source[0] = (ROOT / path).read_text("utf-8")

    def on_site(link: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(path), link[1]))
        if target in ON_SITE:
            return f"]({ON_SITE[target]}"
        if target.startswith("docs/"):
            return f"](/{target.removeprefix('docs/')}"
        if not (ROOT / target).is_file():  # code that only looks like a link
            return link[0]
        return f"]({os.path.relpath(ROOT / target, (ROOT / 'docs' / page).parent)}"

    if (ROOT / path).exists():
        source[0] = LINK.sub(on_site, source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("source-read", on_source_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
