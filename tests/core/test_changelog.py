"""The changelog and the version of the package name the same release."""

import datetime
import re
from pathlib import Path

import tokenwire

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def test_the_newest_release_of_the_changelog_is_the_version_of_the_package() -> None:
    version, date = RELEASE.findall(CHANGELOG.read_text(encoding="utf-8"))[0]
    assert version == tokenwire.__version__
    assert datetime.date.fromisoformat(date)


def test_no_entry_stands_twice() -> None:
    entries = re.findall(r"^- .+$", CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(entries) == len(set(entries)) > 50
