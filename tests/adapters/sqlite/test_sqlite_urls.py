"""URLs and settings: relative and absolute paths, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenwire import open_sink
from tokenwire.opening import open_backend
from tokenwire_adapters.sqlite import Retention, SQLiteBackend


def test_three_slashes_are_relative_and_four_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert SQLiteBackend("sqlite:///chat.db").settings.path == str(tmp_path / "chat.db")
    assert SQLiteBackend("sqlite:///./chat.db").settings.path == str(tmp_path / "chat.db")
    assert SQLiteBackend(f"sqlite:///{tmp_path}/x.db").settings.path == str(tmp_path / "x.db")
    assert SQLiteBackend("sqlite:////srv/chat.db").settings.path == "/srv/chat.db"


def test_a_relative_path_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_sink("sqlite:///chat.db") as sink:
        monkeypatch.chdir("/")
        sink.send_event("c", "n")
        assert sink.flush(10)
    assert (tmp_path / "chat.db").exists()


def test_a_path_is_data(tmp_path: Path) -> None:
    """Whatever it says, it neither is SQL nor a URI of SQLite."""
    for name in (
        "a'; DROP TABLE log; --.db",
        "file:x?mode=memory.db",
        "%41 ü 東京.db",
        ":memory:x",
    ):
        from urllib.parse import quote

        with open_sink(f"sqlite:///{quote(str(tmp_path / name))}") as sink:
            sink.send_event("c'; DROP TABLE log; --", "n")
            assert sink.flush(10)
        assert (tmp_path / name).exists(), name


def test_settings_come_from_the_url_or_by_keyword() -> None:
    url = "sqlite:////x.db?synchronous=full&event_age=5&responses=7&age=none&granularity=token"
    settings = SQLiteBackend(url, timeout=2).settings
    assert (settings.synchronous, settings.event_age, settings.timeout) == ("FULL", 5.0, 2)
    assert settings.retention == Retention(responses=7, age=None)
    assert open_backend(url).granularity == "token"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://:memory:", "memory://"),
        ("sqlite://", "memory://"),
        ("sqlite:///", "memory://"),
        ("sqlite://chat.db", "three slashes"),
        ("sqlite:////srv/", "three slashes"),
        ("sqlite:////srv/a%00b", "three slashes"),
        ("sqlite:////x.db?mode=memory", "no parameter 'mode'"),
        ("sqlite:////x.db?synchronous=OFF", "synchronous"),
        ("sqlite:////x.db?timeout=soon", "timeout"),
        ("sqlite:////x.db?timeout=0", "timeout"),
        ("sqlite:////x.db?timeout=nan", "timeout"),
        ("sqlite:////x.db?event_age=-1", "event_age"),
        ("sqlite:////x.db?granularity=word", "granularity"),
        ("sqlite:////x.db?responses=-1", "retention"),
        ("sqlite:////x.db?age=0", "age"),
    ],
)
def test_a_wrong_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_backend(url)


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="no such setting of the SQLite backend: prefix"):
        SQLiteBackend("sqlite:////x.db", prefix="p")
