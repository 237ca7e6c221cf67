"""Entry points are read once for each state of what is installed."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenwire._plugins import plugins

GROUP = "tokenwire.tests"

Install = Callable[..., Path]


def later(folder: Path) -> None:
    """Have the folder be changed later than before: a clock of some milliseconds may say not."""
    changed = folder.stat().st_mtime_ns + 10_000_000
    os.utime(folder, ns=(changed, changed))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lays out a distribution with an entry point in a folder of the path, as pip would."""

    def lay_out(name: str, value: str, *, folder: str = "packages") -> Path:
        path = tmp_path / folder
        if not path.exists():
            path.mkdir()
            monkeypatch.syspath_prepend(str(path))
        info = path / f"{name}_of_{folder}-1.0.dist-info"
        info.mkdir()
        version = f"Metadata-Version: 2.1\nName: {name}-of-{folder}\nVersion: 1.0\n"
        (info / "METADATA").write_text(version)
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")
        later(path)
        return info

    return lay_out


def test_they_are_read_once(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("one", "package.one:Backend")
    assert plugins(GROUP)["one"].value == "package.one:Backend"
    monkeypatch.setattr(importlib.metadata, "entry_points", None)
    assert list(plugins(GROUP)) == ["one"]


def test_a_package_that_is_installed_or_removed_is_seen(install: Install) -> None:
    first = install("one", "package.one:Backend")
    assert list(plugins(GROUP)) == ["one"]
    second = install("two", "package.two:Backend")
    assert sorted(plugins(GROUP)) == ["one", "two"]
    second.rename(first.parent / "removed")
    later(first.parent)
    assert list(plugins(GROUP)) == ["one"]


def test_of_two_with_one_name_the_first_on_the_path_counts(install: Install) -> None:
    install("one", "later:Backend", folder="later")
    install("one", "sooner:Backend", folder="sooner")
    assert plugins(GROUP)["one"].value == "sooner:Backend"


@pytest.mark.parametrize("entry", ["not there", "", Path("not a str")])
def test_entries_of_the_path_that_lead_nowhere(
    entry: Any, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", "package.one:Backend")
    monkeypatch.setattr("sys.path", [entry, *sys.path])
    assert list(plugins(GROUP)) == ["one"]
