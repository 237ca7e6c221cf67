"""The documentation as a site, built once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import needs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: that of ``tox -e docs``, which names it, else one that is built here."""
    if built := os.environ.get("TOKENWIRE_TEST_SITE"):
        return Path(built)
    needs("furo", "myst_parser", "sphinx", "sphinx_copybutton")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "--keep-going", ROOT / "docs", out]
    build = subprocess.run(command, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    return out
