"""A backend from another package: found by its entry point, held to the same promises as ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.installing import HERE, install, run_python


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the package is installed."""
    return install("backend", tmp_path_factory.mktemp("installed"))


Run = Callable[..., Any]


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    url = f"jsonl://{tmp_path}/log"

    def run(program: str, **options: Any) -> Any:
        """Run a program that uses a sink, in a process of its own; return what it prints."""
        opened = (
            f"import asyncio, json, tokenwire\nsink = tokenwire.open_sink({url!r}, **{options!r})\n"
        )
        done = run_python("-c", opened + program, environment=environment)
        return json.loads(done.stdout or "null")

    return run


@pytest.mark.slow
def test_the_contract(environment: dict[str, str]) -> None:
    contract = HERE / "backend/contract.py"
    done = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", contract, environment=environment
    )
    assert " passed" in done.stdout


WRITE = """
with sink.respond("c", response_id="r1") as response:
    response.write("Hello")
    response.write(" World")
sink.send_event("c", "progress", 40)
assert sink.flush(60)
events = asyncio.run(sink.backend.replay("c", tokenwire.backend.ReplayFrom(after=AFTER)))
print(json.dumps([[event.type, event.cursor] for event in events.events]))
"""


def test_channels_survive_the_process(run: Run) -> None:
    run(
        """
sink.respond("c", response_id="r0").write("last words")
assert sink.flush(60)
import os
os._exit(0)
""",
        lease=0.5,
    )
    states = """
while (page := sink.history("c").items)[-1].state == "streaming":
    pass
print(json.dumps([[response.id, response.state, response.text] for response in page]))
"""
    assert run(states) == [["r0", "abandoned", "last words"]]
    cursor = run(
        "with sink.watch('c', rewind='all') as watch:\n    print(json.dumps(next(watch).cursor))"
    )
    events = run(WRITE.replace("AFTER", repr(cursor)))
    assert [kind for kind, _ in events] == ["start", "delta", "end", "data"]
    (first, *_) = [cursor for _, cursor in events]
    assert (
        run(
            f"""
events = asyncio.run(sink.backend.replay("c", tokenwire.backend.ReplayFrom(after={first!r})))
print(json.dumps([[event.type, event.cursor] for event in events.events]))
"""
        )
        == events[1:]
    )
    assert run(states) == [
        ["r1", "complete", "Hello World"],
        ["r0", "abandoned", "last words"],
    ]


def test_a_crash_while_writing(run: Run, tmp_path: Path) -> None:
    run("sink.respond('c', response_id='r1').finish()\nsink.flush(60)")
    with (tmp_path / "log").open("ab") as file:
        file.write(b'{"time": 1')
    assert run("sink.send_event('c', 'more')\nsink.flush(60)") is None
    ids = "print(json.dumps([response.id for response in sink.history('c').items]))"
    assert run(ids) == ["r1"]


def test_a_file_that_another_process_has_open(run: Run) -> None:
    error = run("""
import subprocess, sys
url = f"jsonl://{sink.backend._journal.path}"
program = f"import tokenwire; tokenwire.open_sink({url!r})"
other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
print(json.dumps(other.stderr))
""")
    assert "in use" in error


def test_it_is_small() -> None:
    source = HERE / "backend" / "tokenwire_jsonl.py"
    assert len(source.read_text().splitlines()) <= 150
