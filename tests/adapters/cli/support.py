"""Runs command lines in processes of their own, as people do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import Self

PATIENCE = 60.0


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, without variables that the command line reads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOKENWIRE_")}
    kept.pop("OPENAI_API_KEY", None)
    return {**kept, "PYTHONUNBUFFERED": "1", **variables}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tokenwire_adapters.cli", *arguments]


def tokenwire(
    *arguments: str, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``tokenwire`` to its end."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        env=environment(**variables),
        check=False,
    )


class Running:
    """A running ``tokenwire``, whose output is read line by line; interrupted at the end.

    :ivar status: its exit status, once it was interrupted.
    """

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=environment(**variables),
        )
        self.output: list[str] = []
        self.status: int | None = None

    def line(self, pattern: str) -> re.Match[str]:
        """Wait for a line that has this in it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"no {pattern!r} in {''.join(self.output)}")

    def stop(self) -> None:
        """Press Ctrl-C and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        self.output.extend(self.process.stdout)
        self.status = self.process.wait(PATIENCE)
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.status is None:
            self.stop()
