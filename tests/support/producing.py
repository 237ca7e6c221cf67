"""A process with a sink of its own that writes what a test gives it, when the test gives it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Self

__all__ = ["Producer"]

PATIENCE = 60.0

_PROGRAM = """
import json, sys
from tokenwire import open_sink
url, channel, response_id = sys.argv[1:]
with open_sink(url) as sink:
    response = sink.respond(channel, response_id=response_id)
    print("open", flush=True)
    for line in sys.stdin:
        response.write(json.loads(line))
        print(sink.flush(60), flush=True)
    response.finish()
    print(response.wait(60).status, response.state, flush=True)
"""


class Producer:
    """A process that writes one response; it is killed at the end of the block.

    :param prelude: code that it runs first.
    :ivar text: what was written so far.
    """

    def __init__(self, url: str, channel: str, response_id: str, *, prelude: str = "") -> None:
        self.text = ""
        self._process = subprocess.Popen(
            [sys.executable, "-c", prelude + _PROGRAM, url, channel, response_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def write(self, text: str) -> None:
        """Have it write this, and wait until the backend has it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()
        assert self._line() == "True"
        self.text += text

    def finish(self) -> tuple[str, str]:
        """Have it end the response; return the receipt's status and the response's state."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        status, state = self._line().split()
        assert self._process.wait(PATIENCE) == 0
        return status, state

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        assert self._line() == "open"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
