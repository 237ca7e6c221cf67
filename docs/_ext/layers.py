"""Drawings in Mermaid, whose renderer is a large script, as boxes: one row for each frame."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.typing import ExtensionMetadata

__all__ = ["setup"]

BOX = re.compile(r'^\s+(\w+)\["([^"]+)"\]$', re.MULTILINE)
FRAME = re.compile(r"subgraph .*?\n(.*?)\n\s+end", re.DOTALL)
ARROW = re.compile(r"^\s+(\w+) --> (\w+)$", re.MULTILINE)


def layers_of(drawing: str) -> str:
    """The frames of a drawing as rows of boxes; below them, which box has arrows to which."""
    names = dict(BOX.findall(drawing))
    arrows: dict[str, list[str]] = {}
    for source, target in ARROW.findall(drawing):
        arrows.setdefault(names[source], []).append(names[target])
    rows = "".join(
        "<li>"
        + "".join(f"<code>{escape(name)}</code> " for _, name in BOX.findall(frame))
        + "</li>"
        for frame in FRAME.findall(drawing)
    )
    listed = "".join(
        f"<li><code>{escape(source)}</code>: {escape(', '.join(targets))}</li>"
        for source, targets in arrows.items()
    )
    arrows_below = (
        f"<details><summary>Arrows: what imports what</summary><ul>{listed}</ul></details>"
    )
    return f'<ol class="layers">{rows}</ol>{arrows_below}'


class LayerDrawings(SphinxPostTransform):
    default_priority = 100
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for block in list(self.document.findall(nodes.literal_block)):
            if block.get("language") == "mermaid":
                block.replace_self(nodes.raw("", layers_of(block.astext()), format="html"))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_post_transform(LayerDrawings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
