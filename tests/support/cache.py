"""Where tests keep, from one run to the next, what takes long to fetch or to build."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CACHE"]

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenwire-tests"
