"""Recorded provider streams: ours, and those of real servers where their folder is present."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

_ROOT = Path(__file__).resolve().parents[2]
OWN = _ROOT / "tests" / "recordings"
REAL = _ROOT.parent / "shared" / "recordings"
"""Bodies of real servers. They are not part of this repository; checks skip without them."""

Api = Literal["chat", "responses", "anthropic"]


@dataclass(frozen=True)
class Expected:
    """What a stream carries."""

    text: str = ""
    reasoning: str = ""
    tool_arguments: list[str] = field(default_factory=list[str])
    finish: str | None = None
    error: str | None = None
    usage: dict[str, Any] | None = None
    refusal: str = ""
    citations: list[str] = field(default_factory=list[str])
    reasoning_parts: list[str] = field(default_factory=list[str])
    texts: list[str] = field(default_factory=list[str])
    finishes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Recording:
    """One stream."""

    name: str
    api: Api
    model: str
    path: Path = field(repr=False)
    events: int
    """Events with data, ``[DONE]`` included."""
    expected: Expected = field(repr=False)

    @property
    def body(self) -> bytes:
        """The bytes, as the server sent them."""
        return self.path.read_bytes()


def load(folder: Path, api: Api | None = None) -> list[Recording]:
    """Every recording of a folder; none where the folder is absent."""
    index = folder / "index.json"
    if not index.is_file():
        return []
    return [
        Recording(
            name=entry["name"],
            api=entry["api"],
            model=entry["model"],
            path=folder / entry["file"],
            events=entry["events"],
            expected=Expected(**entry["expected"]),
        )
        for entry in json.loads(index.read_text(encoding="utf-8"))
        if api is None or entry["api"] == api
    ]


def parameters(api: Api | None = None) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`: every recording, and a skip where none are real."""
    own = [pytest.param(each, id=f"own-{each.name}") for each in load(OWN, api)]
    real = [pytest.param(each, id=f"real-{each.name}") for each in load(REAL, api)]
    if not real:
        absent = pytest.mark.skip(reason="the recordings of real servers are not here")
        real = [pytest.param(None, id="real", marks=absent)]
    return own + real


def named(name: str) -> Recording:
    """One of our own recordings."""
    return next(each for each in load(OWN) if each.name == name)
