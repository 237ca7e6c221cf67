"""`tokenwire run`: programs as they are, started the ways programs are started."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.recordings import named
from tests.support.replay import Replay
from tokenwire_adapters._tools.cli import run as _run

pytestmark = pytest.mark.slow

CHAT = named("chat-text")

AGENT = """
import json, os, sys
import httpx

def main():
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    url = os.environ["AGENT_URL"] + "/chat/completions"
    with httpx.stream("POST", url, json=body, timeout=60) as reply:
        for line in reply.iter_lines():
            pass
    print("done", *sys.argv[1:])
    sys.exit(3)

if __name__ == "__main__":
    main()
"""
WITH_AN_SDK = """
import os, sys
from openai import OpenAI

with OpenAI(base_url=os.environ["AGENT_URL"], api_key="x", max_retries=0) as client:
    for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
        pass
print("done", *sys.argv[1:])
sys.exit(3)
"""

# Another `sitecustomize`, which ours stands before, writes down at exit what was published.
WITNESS = """
import atexit, json, os, sys

def tell():  # after tokenwire's own exit, which was registered later
    found = []
    if "tokenwire.memory" in sys.modules:
        # The same store of this process, without a sink: a sink could start no thread any more.
        import asyncio, tokenwire
        store = tokenwire.MemoryBackend.from_url(os.environ.get("TOKENWIRE_URL", "memory://"))
        found = asyncio.run(store.history(os.environ.get("WITNESS_CHANNEL", "run"), limit=20)).items
    with open(os.environ["WITNESS"], "a") as file:
        reported = [[r.text, r.state] for r in found]
        file.write(json.dumps({"argv": sys.argv, "reported": reported}) + "\\n")

if os.environ.get("WITNESS"):
    atexit.register(tell)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an agent, as a script, a module, a package and a console entry point."""
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "with_an_sdk.py").write_text(WITH_AN_SDK)
    package = tmp_path / "packaged"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(AGENT)
    entry = tmp_path / "my-agent"
    entry.write_text(f"#!{sys.executable}\nfrom agent import main\nmain()\n")
    entry.chmod(0o755)
    parent = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, 'agent.py']))"
    (tmp_path / "parent.py").write_text(parent)
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text(WITNESS)
    with Replay(CHAT.body) as replay:
        monkeypatch.setenv("AGENT_URL", replay.base_url)
        monkeypatch.setenv("WITNESS", str(tmp_path / "witness.jsonl"))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(other), str(tmp_path)]))
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("TOKENWIRE_URL", raising=False)
        yield tmp_path


def run(place: Path, *args: str) -> tuple[Any, list[dict[str, Any]]]:
    """Run a command line; return how it ended, and what each Python program in it published."""
    done = subprocess.run(
        [sys.executable, "-m", "tokenwire_adapters._tools.cli.run", *args],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    witness = place / "witness.jsonl"
    lines = witness.read_text().splitlines() if witness.exists() else []
    # `tokenwire run` itself is a Python program, too, but it gave its place to the agent's.
    return done, [json.loads(line) for line in lines]


TOLD = [[CHAT.expected.text, "complete"]]


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "agent.py", "--flag", "x"],
        [sys.executable, "with_an_sdk.py", "--flag", "x"],
        [sys.executable, "-m", "agent", "--flag", "x"],
        [sys.executable, "-m", "packaged", "--flag", "x"],
        ["my-agent", "--flag", "x"],
        ["agent.py", "--flag", "x"],
        ["-m", "packaged", "--flag", "x"],
    ],
    ids=[
        "script",
        "script-with-an-sdk",
        "module",
        "package",
        "entry-point",
        "bare-script",
        "bare-module",
    ],
)
def test_an_unmodified_program(place: Path, command: list[str]) -> None:
    done, programs = run(place, "--to", "memory://run", "--channel", "run", "--", *command)
    assert done.stdout == "done --flag x\n"
    assert done.stderr == ""
    assert done.returncode == 3
    assert [program["reported"] for program in programs] == [TOLD]


def test_without_a_url_it_says_so(place: Path) -> None:
    done, programs = run(place, "--channel", "run", "--", sys.executable, "agent.py")
    assert "tokens will stay inside the program" in done.stderr
    assert programs[0]["reported"] == TOLD


def test_disabled(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWIRE_DISABLED", "1")
    done, programs = run(place, "--to", "memory://", "--channel", "run", "--", "my-agent")
    assert done.returncode == 3
    assert programs[0]["reported"] == []


def test_one_line_says_that_nothing_was_published(place: Path) -> None:
    (place / "silent.py").write_text("import sys; print('out'); sys.exit(5)")
    done, _ = run(place, "--to", "memory://", "--", sys.executable, "silent.py")
    assert (done.stdout, done.returncode) == ("out\n", 5)
    assert done.stderr == NOTHING


NOTHING = (
    "tokenwire run: no response was published;"
    " `tokenwire doctor` lists which SDKs and HTTP clients are read\n"
)


@pytest.mark.parametrize("code", ["import os; os.close(2)", "import sys; sys.stderr.close()"])
def test_the_line_never_changes_the_exit_status(place: Path, code: str) -> None:
    (place / "closes.py").write_text(f"{code}\nimport sys; sys.exit(5)")
    done, _ = run(place, "--to", "memory://", "--", sys.executable, "closes.py")
    assert done.returncode == 5


def test_no_such_line_when_disabled(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENWIRE_DISABLED", "1")
    (place / "silent.py").write_text("print('out')")
    done, _ = run(place, "--to", "memory://", "--", sys.executable, "silent.py")
    assert done.stderr == ""


FORKING = """
import os, sys
import agent
child = os.fork()
if child == 0:
    try:
        agent.main()
    finally:
        {leave}
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("leave", ["sys.exit(4)", "os._exit(4)"])
def test_what_a_fork_publishes_counts(place: Path, leave: str) -> None:
    """As with a server whose workers call the models: the parent itself calls none."""
    (place / "forking.py").write_text(FORKING.format(leave=leave))
    options = ["--to", "memory://", "--channel", "run"]
    done, _ = run(place, *options, "--", sys.executable, "forking.py")
    assert (done.stderr, done.returncode) == ("", 4)


@pytest.mark.parametrize("children", [False, True])
def test_children(place: Path, children: bool) -> None:
    flags = ["--children"] if children else []
    command = [*flags, "--to", "memory://", "--channel", "run", "--", sys.executable, "parent.py"]
    done, programs = run(place, *command)
    assert done.returncode == 3
    assert [program["reported"] for program in programs] == [TOLD if children else [], []]
    assert done.stderr == ("" if children else NOTHING)


SESSIONS = """
import os, sys
from langchain_core.language_models import GenericFakeChatModel

model = GenericFakeChatModel(messages=iter(["Hello"]))
config = {"metadata": {"thread_id": "thread"}}
assert [message.text for message in model.stream("hi", config)]
"""


@pytest.mark.parametrize(
    ("flags", "channel"),
    [
        (["--channel", "run"], "run"),
        (["--channel", "run", "--session-first"], "thread"),
        ([], "thread"),
    ],
)
def test_a_channel_given_by_hand_comes_before_a_session(
    place: Path, flags: list[str], channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not flags:
        monkeypatch.setenv("TOKENWIRE_CHANNEL", "run")  # a default for what has no session
    (place / "sessions.py").write_text(SESSIONS)
    monkeypatch.setenv("WITNESS_CHANNEL", channel)
    done, programs = run(place, *flags, "--to", "memory://", "--", sys.executable, "sessions.py")
    assert (done.stderr, done.returncode) == ("", 0)
    assert [program["reported"] for program in programs] == [[["Hello", "complete"]]]


CANCELLED = """
import os, tokenwire
from openai import OpenAI

with OpenAI(base_url=os.environ["AGENT_URL"], api_key="x", max_retries=0) as client:
    stream = client.chat.completions.create(model="m", messages=[], stream=True)
    next(iter(stream))
    sink = tokenwire.opening.default_sink()
    sink.cancel("run", sink.history("run").items[0].id)
    try:
        for chunk in stream:
            pass
        print("ended")
    except tokenwire.ResponseCancelled:
        print("raised")
"""


@pytest.mark.parametrize(("on_cancel", "met"), [("end", "ended\n"), ("raise", "raised\n")])
def test_what_the_program_meets_after_a_cancel(place: Path, on_cancel: str, met: str) -> None:
    (place / "cancelled.py").write_text(CANCELLED)
    options = ["--on-cancel", on_cancel, "--to", "memory://", "--channel", "run"]
    done, _ = run(place, *options, "--", sys.executable, "cancelled.py")
    assert (done.stderr, done.stdout) == ("", met)


def test_the_program_finds_its_environment_as_it_was(place: Path) -> None:
    (place / "look.py").write_text(
        textwrap.dedent(
            """
            import os, sys
            assert not any("inject" in entry for entry in sys.path), sys.path
            print(os.environ["PYTHONPATH"])
            """
        )
    )
    done, _ = run(place, "--to", "memory://", "--", sys.executable, "look.py")
    assert done.stdout.strip() == os.environ["PYTHONPATH"]


@pytest.mark.parametrize(
    ("args", "status", "reported"),
    [
        ([], 2, "name the program"),
        (["--"], 2, "name the program"),
        (["--to", "nonsense://x", "--", "my-agent"], 2, "nonsense"),
        (["--to", "memory://", "--", "no-such-program"], 127, "command not found"),
        (["--wrong"], 2, "unrecognized"),
    ],
)
def test_wrong_command_lines(place: Path, args: list[str], status: int, reported: str) -> None:
    done, _ = run(place, *args)
    assert done.returncode == status
    assert reported in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_signals_reach_the_program(place: Path) -> None:
    (place / "waits.py").write_text("import time; print('up', flush=True); time.sleep(120)")
    command = ["--to", "memory://", "--", sys.executable, "waits.py"]
    with subprocess.Popen(
        [sys.executable, "-m", "tokenwire_adapters._tools.cli.run", *command],
        cwd=place,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


def test_main_returns_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run.main([]) == 2
    assert _run.main(["--help"]) == 0
    assert "--children" in capsys.readouterr().out
