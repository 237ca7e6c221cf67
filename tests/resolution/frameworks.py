"""What is installed of a framework is the same with tokenwire beside it as alone.

Asks a package index, by ``uv``, and installs nothing: ``tox -e resolution``. Without ``uv`` or
the index, it fails. The name of this file keeps it out of a run of all tests.
"""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
PAIRS = [tuple(line.split(": ")) for line in LINES if not line.startswith("#")]

COMPILE = ("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-strip-extras")


def resolved(*requirements: str) -> dict[str, str]:
    """The version of each package, by its name, that would be installed of `requirements`."""
    done = subprocess.run(
        [*COMPILE, "--python-version", "3.11", "-"],
        input="\n".join(requirements),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pins = (line.partition("==") for line in done.stdout.splitlines() if "==" in line)
    return {name.partition("[")[0]: version for name, _, version in pins}


@pytest.mark.parametrize(("framework", "extras"), PAIRS, ids=lambda value: value)
def test_tokenwire_holds_no_package_back(framework: str, extras: str) -> None:
    alone = resolved(framework)
    beside = resolved(framework, f"tokenwire[{extras}] @ {ROOT.as_uri()}")
    assert {name: beside.get(name) for name in alone} == alone
