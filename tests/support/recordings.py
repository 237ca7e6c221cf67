"""Recorded provider streams: ours, and those of real servers where their folder is present."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.profile import chosen

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


def combined(
    recordings: Sequence[Any], *axes: Sequence[Any], each: Callable[..., Hashable] | None = None
) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`: recordings, each in some of the ways to read it.

    What a recording holds is the recorder's business, and how it is read the generators': every
    recording comes once, every way with each API and with replies that end well and in an error,
    and every two ways of different axes together.

    :param recordings: from `parameters`.
    :param axes: ways, strings or functions.
    :param each: of the values of the axes, what every recording is to meet.
    """

    def about(row: tuple[Any, ...]) -> list[Hashable]:
        recording: Recording | None = row[0].values[0]
        if recording is None:
            return []
        return [recording.api, bool(recording.expected.error), *map(_label, row[1:])]

    rows = chosen(
        itertools.product(recordings, *axes),
        each=lambda row: [(row[0].id, each(*row[1:]) if each is not None else None)],
        pairs=about,
    )
    return [
        pytest.param(
            row[0].values[0],
            *row[1:],
            id="-".join([str(row[0].id), *map(_label, row[1:])]),
            marks=row[0].marks,
        )
        for row in rows
    ]


def _label(value: Any) -> str:
    return value if isinstance(value, str) else str(value.__name__)


def named(name: str) -> Recording:
    """One of our own recordings."""
    return next(each for each in load(OWN) if each.name == name)
