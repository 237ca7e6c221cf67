"""docs/administration.md says of each backend what its capabilities say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.needs import needs
from tokenwire import MemoryBackend
from tokenwire.registry import open_backend

PAGE = (Path(__file__).parents[2] / "docs" / "administration.md").read_text("utf-8")
ROWS = {
    "delete": "delete",
    "list channels": "list_channels",
    "retention per channel": "channel_retention",
}


def table():
    (text,) = re.findall(r"^## Who can do what\n\n(\|.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: dict(zip(lines[0][1:], row[1:], strict=True)) for row in lines[2:]}


@pytest.mark.parametrize("name", ["memory", "SQLite", "Redis", "Ably"])
def test_the_table_says_what_the_backends_say(name, tmp_path):
    needs({"Redis": "redis", "Ably": "ably"}.get(name, "msgspec"))
    urls = {
        "SQLite": f"sqlite:///{tmp_path}/channels.db",
        "Redis": "redis://localhost",
        "Ably": "ably://app.key:secret",
    }
    backend = MemoryBackend() if name == "memory" else open_backend(urls[name])
    for row, capability in ROWS.items():
        says = table()[row][name].startswith("yes")
        assert says == getattr(backend.capabilities, capability), (row, name)
