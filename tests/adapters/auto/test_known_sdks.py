"""An SDK that is known, and that nothing sees, says so once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tokenwire_adapters._agents.known_sdks import KNOWN_SDKS, unseen_sdks
from tokenwire_adapters._tools.cli.doctor import main as doctor

PROGRAM = """
import tokenwire_adapters.auto as auto
undo = auto.install()
import {0}
undo()
auto.install()
import sys
del sys.modules["{0}"]
import {0}
"""


def standard_error(folder: Path, module: str, program: str = PROGRAM) -> str:
    """What a program says that imports a module, which is an empty one."""
    path = folder.joinpath(*module.split("."))
    path.mkdir(parents=True)
    (path / "__init__.py").write_text("")
    path_first = f"import sys; sys.path.insert(0, {str(folder)!r})"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            path_first + program.format(module),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stderr


@pytest.mark.parametrize("module", ["xai_sdk", "replicate", "llama_cpp"])
def test_one_that_nothing_sees_says_so_once(tmp_path: Path, module: str) -> None:
    (line,) = standard_error(tmp_path, module).splitlines()
    assert module in line
    assert "not published" in line
    assert "tokenwire doctor" in line


@pytest.mark.parametrize("module", ["groq", "mistralai", "transformers", "another_sdk"])
def test_others_say_nothing(tmp_path: Path, module: str) -> None:
    """Those that the listener on an HTTP client sees, and packages that are much else besides."""
    assert standard_error(tmp_path, module) == ""


def test_nothing_is_said_without_auto(tmp_path: Path) -> None:
    assert standard_error(tmp_path, "xai_sdk", "\nimport {0}") == ""


def test_layers_are_those_that_are_there() -> None:
    unseen = {sdk.module for sdk in unseen_sdks(["openai", "urllib3"])}
    assert {"groq", "google.genai", "anthropic"} <= unseen
    assert not {"openai", "agents", "botocore"} & unseen
    assert len({sdk.module for sdk in KNOWN_SDKS}) == len(KNOWN_SDKS)


def test_doctor_says_what_is_seen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "xai_sdk-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: xai-sdk\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor(["memory://"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert "seen by openai" in lines["openai"]
    assert lines["xai-sdk"].split()[1:5] == ["1.2", "not", "seen:", "nothing"]
    assert "gRPC" in lines["xai-sdk"]
