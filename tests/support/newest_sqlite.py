"""A plugin for pytest: pysqlite3, with a SQLite of its own, in the place of Python's sqlite3."""

from __future__ import annotations

import sys

import pysqlite3

sys.modules["sqlite3"] = pysqlite3


def pytest_report_header() -> str:
    return f"SQLite {pysqlite3.sqlite_version}"
