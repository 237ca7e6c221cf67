"""The commands for whoever runs the system, on a real Redis; those that show channels live."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import threading

import pytest
from rich.cells import cell_len

from tests.support.needs import needs

needs("uvicorn")
needs("rich")
needs("redis")

from rich.console import Console

import tokenwire as tw
from tests.adapters.cli.support import PATIENCE, command, environment, tokenwire
from tests.redis_support import eventually
from tests.redis_support.fixtures import *  # noqa: F403
from tokenwire._clock import now_ms
from tokenwire.events import InputEvent
from tokenwire_adapters._tools.cli.backends import probably_meant
from tokenwire_adapters._tools.cli.commands import COMMANDS, parser_of
from tokenwire_adapters._tools.cli.live import LiveView
from tokenwire_adapters.cli import main

pytestmark = pytest.mark.redis


@pytest.fixture
def url(shared_redis):
    return shared_redis.url


@pytest.fixture
def sink(url):
    with tw.open_sink(url, strict=True) as sink:
        yield sink


def write(sink, text, channel="chat-42", **options):
    with sink.respond(channel, response_id=text.split()[0], **options) as response:
        response.write(text)
    response.wait(60)


def run(capsys, *arguments):
    """Run a command line in this process; return its status, stdout and stderr."""
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


# -- what there is


def test_channels_and_history(sink, url, capsys):
    write(sink, "first answer")
    write(sink, "second answer\x1b[31m")
    then = now_ms()
    eventually(lambda: now_ms() > then, "the next millisecond")  # Redis has no finer times
    write(sink, "x", "other")
    status, out, _ = run(capsys, "channels", url)
    assert status == 0
    assert [line.split("\t")[:3] for line in out.splitlines()] == [
        ["other", "1", "0"],
        ["chat-42", "2", "0"],
    ]
    _, out, _ = run(capsys, "channels", url, "--json", "--prefix", "chat")
    assert json.loads(out)["name"] == "chat-42"
    _, out, _ = run(capsys, "history", url, "chat-42", "--limit", "1")
    assert out.split("\t")[0:2] == ["second", "complete"]
    assert "\x1b" not in out
    _, out, _ = run(capsys, "history", url, "chat-42", "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["second", "first"]
    _, out, _ = run(capsys, "history", url, "chat-42", "--full")
    assert out.index("first answer") < out.index("second answer")
    assert run(capsys, "history", url, "empty")[:2] == (0, "")


# -- talking back


def test_send_and_cancel(sink, url, capsys, monkeypatch):
    with sink.inputs("chat-42") as inputs:
        assert run(capsys, "send", url, "chat-42", "And then?", "--sender", "u1")[0] == 0
        monkeypatch.setattr("sys.stdin", io.StringIO('{"n": 1}\n'))
        _, out, _ = run(capsys, "send", url, "chat-42", "--data", "--name", "n", "--json")
        assert json.loads(out)["cursor"]
        first, second = next(inputs), next(inputs)
    assert (first.name, first.data, first.sender) == ("message", "And then?", "u1")
    assert (second.name, second.data) == ("n", {"n": 1})
    assert run(capsys, "cancel", url, "chat-42")[:2] == (0, "nothing is streaming in chat-42\n")
    response = sink.respond("chat-42", response_id="r1")
    response.write("so far")
    sink.flush()
    status, out, _ = run(capsys, "cancel", url, "chat-42", "--reason", "enough")
    assert (status, out) == (0, "r1: cancelled\n")
    assert response.cancel_reason == "enough"
    status, out, _ = run(capsys, "cancel", url, "chat-42", "r2", "--json")
    assert (status, json.loads(out)["state"]) == (1, "pending")


# -- publish


def test_any_output_becomes_a_response(sink, url):
    done = tokenwire(
        "publish", url, "chat-42", "--response", "r1", "--metadata", "user=u1", "--tee", "--json",
        stdin="Héllo\nwörld",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Héllo\nwörld"
    assert json.loads(done.stderr) == {"id": "r1", "state": "complete", "delivery": "delivered"}
    (response,) = sink.history("chat-42").items
    assert (response.text, response.metadata) == ("Héllo\nwörld", {"user": "u1"})


def test_a_cancel_stops_publishing(sink, url):
    process = subprocess.Popen(
        command("publish", url, "chat-42"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with process, sink.watch("chat-42") as watch:
        process.stdin.write(b"so far")
        process.stdin.flush()
        response_id = next(event.response_id for event in watch if event.type == "delta")
        assert sink.cancel("chat-42", response_id, reason="enough").state == "cancelled"
        # Its stdin is still open: it does not wait for the program to say more.
        assert process.wait(PATIENCE) == 1
        assert b"cancelled: enough" in process.stderr.read()


# -- delete, export, import


def test_delete(sink, url, capsys, monkeypatch):
    for text in ("a", "b", "c"):
        write(sink, text, metadata={"user": f"u-{text}"})
    status, _, err = run(capsys, "delete", url, "chat-42")
    assert (status, "say --yes" in err) == (2, True)
    assert run(capsys, "delete", url, "chat-42", "--response", "a", "--yes")[0] == 0
    assert run(capsys, "delete", url, "chat-42", "--response", "a", "--yes")[0] == 1
    status, out, _ = run(capsys, "delete", url, "--user", "u-b", "--yes", "--json")
    assert (status, json.loads(out)) == (0, {"responses": 1, "events": 0})
    assert [one.id for one in sink.history("chat-42").items] == ["c"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert run(capsys, "delete", url, "chat-42")[0] == 1
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert run(capsys, "delete", url, "chat-42")[:2] == (
        0,
        "deleted: 1 responses, 0 other events\n",
    )
    assert not sink.history("chat-42").items


def test_export_and_import(sink, url, capsys, tmp_path):
    write(sink, "a")
    write(sink, "b", "other")
    sink.input("chat-42", "question", "?", id="i1")
    done = tokenwire("export", url)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    file = tmp_path / "channels.jsonl"
    assert run(capsys, "export", url, "chat-42", "--output", str(file))[0] == 0
    status, _, err = run(capsys, "export", url, "chat-42", "--output", str(file))
    assert (status, "is there already" in err) == (2, True)
    sink.delete_channel("chat-42")
    assert run(capsys, "import", url, str(file))[:2] == (
        0,
        "imported: 1 responses, 1 other events; 0 were there already\n",
    )
    done = tokenwire("import", url, "-", "--json", stdin=file.read_text())
    assert json.loads(done.stdout)["present"] == 1
    assert [one.id for one in sink.history("chat-42").items] == ["a"]
    file.write_text("Dear diary\n")
    status, _, err = run(capsys, "import", url, str(file))
    assert status == 1
    assert "channels.jsonl, line 1: no line of an export" in err
    assert run(capsys, "import", url, str(tmp_path / "none"))[0] == 1


# -- replay


def test_replay_in_the_terminal_and_to_another_channel(sink, url, capsys):
    with sink.respond("chat-42", response_id="r1", metadata={"model": "m"}) as response:
        response.write("Let me think. ", kind="reasoning")
        response.tool_call("search", "c1", '{"q": 1}')
        response.write("The  answer\nis 42.")
        response.tool_result("c1", {"hits": 1})
        response.finish("stop")
    response.wait(60)
    status, out, _ = run(capsys, "replay", url, "chat-42", "--speed", "max")
    assert status == 0
    for text in ("r1 · m", "Let me think.", 'search {"q": 1}', "The  answer\nis 42.", "complete"):
        assert text in out
    status, *_ = run(
        capsys, "replay", url, "chat-42", "--speed", "1000", "--to", url, "--into", "copy"
    )
    assert status == 0
    (copy,) = sink.history("copy").items
    (original,) = sink.history("chat-42").items
    assert copy.parts == original.parts
    assert copy.tool_results == original.tool_results
    assert (copy.state, copy.finish_reason) == ("complete", "stop")
    assert run(capsys, "replay", url, "empty")[0] == 1


# -- the live view


def drawn(view_of, width=60):
    """What a live view prints for good, and its last frame."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=12, color_system=None)
    view = LiveView("chat-42", console)
    view_of(view)
    with console.capture() as capture:
        console.print(view._draw())
    view.close()
    return capture.get(), out.getvalue()


def test_a_live_view_shows_parts_tools_rate_and_what_has_ended(sink):
    with sink.watch("chat-42") as watch:
        with sink.respond("chat-42", response_id="r1", metadata={"model": "m"}) as response:
            response.write("Let me think.", kind="reasoning")
            response.tool_call("search", "c1", '{"q": "\x1b[2J"}')
            response.tool_result("c1", {"hits": 1})
            response.write("Half")
            sink.flush()
            events = []
            for event in watch:
                events.append(event)
                if event.type == "delta" and event.kind == "text":
                    break
            frame, _ = drawn(lambda view: [view.show(event) for event in events])
            for text in ("r1 · m", "Let me think.", "⚙ search", '→ {"hits":1}', "Half"):
                assert text in frame
            assert re.search(r"streaming · \d+\.\d s · \d+ characters/s", frame)
            assert "\x1b[2J" not in frame
        for event in watch:
            events.append(event)
            if event.type == "end":
                break
        sink.input("chat-42", "question", "And then?", sender="u1")
        events.append(next(event for event in watch if isinstance(event, InputEvent)))
    frame, printed = drawn(lambda view: [view.show(event) for event in events])
    assert "waiting in chat-42" in frame
    assert re.search(r"complete · \d+\.\d s", printed)
    assert "» u1: And then?" in printed


def test_a_long_response_shows_its_end():
    def show(view):
        view.show(tw.StartEvent(response_id="r"))
        text = "\n".join(f"line {n}" for n in range(100))
        view.show(tw.DeltaEvent(response_id="r", part=0, kind="text", offset=0, text=text))

    frame, printed = drawn(show)
    assert "line 99" in frame
    assert "line 50" not in frame
    assert "line 0 " in printed  # all of it, once the view is closed
    assert "line 50" in printed


def in_a_terminal(*arguments, until, **variables):
    """Run a command line in a pseudo-terminal until it shows `until`; return what it showed."""
    ours, theirs = pty.openpty()
    env = environment(TERM="xterm", COLUMNS="80", LINES="24", **variables)
    process = subprocess.Popen(
        command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    shown = b""
    try:
        while until.encode() not in shown:
            assert select.select([ours], [], [], PATIENCE)[0], shown
            shown += os.read(ours, 65536)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(ours)
    return shown.decode(errors="replace")


def test_watch_in_a_terminal_waits_and_shows_what_comes(sink, url):
    writing = threading.Thread(target=write, args=(sink, "Hello there"))
    shown = in_a_terminal("watch", url, "chat-42", until="waiting in chat-42")
    assert "\x1b[" in shown
    writing.start()
    writing.join()
    shown = in_a_terminal("watch", url, "chat-42", "--rewind", "all", until="complete")
    assert "Hello there" in shown
    plain = in_a_terminal(
        "watch", url, "chat-42", "--rewind", "all", "--plain", until="complete", NO_COLOR="1"
    )
    assert "\x1b" not in plain
    assert "waiting in chat-42" in plain


def test_tables_in_a_terminal(sink, url):
    write(sink, "Hello there")
    shown = in_a_terminal("channels", url, until="chat-42", NO_COLOR="1")
    assert "last active" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)


def test_a_response_is_one_line_of_a_terminal(sink, url):
    write(sink, "A long text of many words, 茶 and more. " * 10)
    (identifier,) = [one.id for one in sink.history("chat-42").items]
    shown = in_a_terminal("history", url, "chat-42", until="…", NO_COLOR="1")
    (line,) = [line for line in shown.splitlines() if "complete" in line]
    assert line.startswith(f"{identifier} ")
    assert "A long text" in line
    assert line.rstrip().endswith("…")
    assert cell_len(line.rstrip()) <= 80
    assert shown.count("A long text") == 1


def test_without_rich_all_is_plain(sink, url, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'rich' else find(name, *a)\n"
    )
    write(sink, "Hello there")
    path = {"PYTHONPATH": str(tmp_path)}
    shown = in_a_terminal("channels", url, until="chat-42", **path)
    assert "last active" not in shown
    shown = in_a_terminal("watch", url, "chat-42", "--rewind", "all", until="complete", **path)
    assert "waiting in chat-42" in shown
    assert "Hello there" in shown


# -- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("history",), "name the channel, too"),
        (("history", "redis://localhost"), "name the channel, too"),
        (("history", "a", "b"), "too many arguments"),
        (("history", "a", "--limit", "x"), "invalid int"),
        (("channels", "memory://"), "memory:// lives inside"),
        (("channels", "http://localhost/stream"), "is a gateway"),
        (("cancel",), "name the channel"),
        (("send", "redis://localhost", "c", "{", "--data"), "--data takes JSON"),
        (("publish", "redis://localhost", "c", "--metadata", "x"), "KEY=VALUE"),
        (("delete", "redis://localhost"), "name the channel"),
        (("delete", "redis://x", "c", "--user", "u", "--response", "r"), "not both"),
        (("import", "redis://localhost"), "name the file"),
        (("replay", "redis://localhost", "c", "--speed", "fast"), "--speed takes"),
        (("replay", "redis://localhost", "c", "--into", "d"), "--into goes with --to"),
        (("completion", "cmd"), "invalid choice"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(arguments, message, capsys, monkeypatch):
    monkeypatch.delenv("TOKENWIRE_URL", raising=False)
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["channels", "history", "export", "delete", "send", "cancel"])
def test_a_backend_that_is_away_is_no_traceback(name, capsys):
    where = "redis://127.0.0.1:1/0?timeout=0.1"
    rest = {"channels": [], "send": ["c", "x"], "delete": ["c", "--yes"]}.get(name, ["c"])
    status, _, err = run(capsys, name, where, *rest)
    assert status == 1
    assert err.startswith("tokenwire: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("localhost:6379", "redis://localhost:6379"),
        ("reddis://user:secret@localhost/0", "redis://localhost/0"),
        ("redis:/localhost/0", "redis://localhost/0"),
        ("valkey://h:6379", "redis://h:6379"),
        ("http://localhost:6379", "redis://localhost:6379"),
        ("redis://localhost:8765/stream", "http://localhost:8765/stream"),
        ("wss://stream.example.com", "https://stream.example.com"),
        ("redis://localhost", None),
        ("https://stream.example.com/stream", None),
        ("albly://app.key:secret", None),
        ("redis://:pass/word", None),
        ("postgres://localhost", None),
    ],
)
def test_what_a_wrong_url_probably_meant(wrong, meant):
    assert probably_meant(wrong) == meant


def test_doctor_says_what_was_meant(capsys):
    status, _, err = run(capsys, "doctor", "reddis://user:secret-word@localhost:1")
    assert status == 1
    assert "Did you mean redis://localhost:1 ?" in err
    assert "secret-word" not in err


# -- completion


def test_every_command_has_a_parser_and_is_in_the_completion(capsys):
    for name in COMMANDS:
        assert parser_of(name).prog == f"tokenwire {name}"
    for shell in ("bash", "zsh", "tcsh"):
        status, out, _ = run(capsys, "completion", shell)
        assert status == 0
        assert all(name in out for name in COMMANDS)
        assert "rewind" in out


def test_the_completion_works_in_bash():
    script = tokenwire("completion", "bash").stdout
    ask = (
        script
        + "\nCOMP_WORDS=(tokenwire his); COMP_CWORD=1; COMPREPLY=()\n"
        + (
            '$(complete -p tokenwire | sed -E "s/.*-F ([^ ]+).*/\\1/") tokenwire his tokenwire\n'
            'echo "${COMPREPLY[@]}"\n'
        )
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["history"]
