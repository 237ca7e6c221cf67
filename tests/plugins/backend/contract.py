"""What the author of a backend writes to hold it to tokenwire's promises."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tokenwire.backend import Backend, Granularity
from tokenwire.registry import open_backend
from tokenwire.testing import BackendContract


class TestJsonLines(BackendContract):
    def place(self, granularity: Granularity) -> Callable[[], Backend]:
        folder = Path(tempfile.mkdtemp())
        self.at_end(lambda: shutil.rmtree(folder))
        return lambda: open_backend(f"jsonl://{folder}/channels.jsonl?granularity={granularity}")
