"""Where a command reads and writes: a URL and a channel by themselves, or as options."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.needs import needs

needs("uvicorn")
needs("openai")

import httpx

import tokenwire as tw
from tests.adapters.cli.support import Running, tokenwire
from tokenwire_adapters.cli import main
from tokenwire_adapters.testing.provider import serve_in_thread


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/chat.db"


def spellings(url: str, *channel: str) -> list[list[str]]:
    """The ways to give a URL and a channel."""
    named = [f"--channel={name}" for name in channel]
    return [
        [url, *channel],
        ["--to", url, *channel],
        [url, *named],
        [*named, "--to", url],
    ]


def test_commands_on_a_channel_take_both_spellings(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, where in enumerate(spellings(url, "chat-42")):
        done = tokenwire("publish", *where, "--response", f"r{number}", stdin="Hello")
        assert done.returncode == 0, done.stderr
        assert main(["history", *where, "--json"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[0])["id"] == f"r{number}"
        assert main(["watch", *where, "--rewind=all", f"--response=r{number}", "--plain"]) == 0
        assert "Hello" in capsys.readouterr().out
        assert main(["send", *where, "And then?"]) == 0
        assert main(["cancel", *where]) == 0
        assert capsys.readouterr().out == "nothing is streaming in chat-42\n"
        assert main(["export", *where]) == 0
        assert "chat-42" in capsys.readouterr().out
        assert main(["delete", *where, "--response", f"r{number - 1}", "--yes"]) == (number == 0)
        capsys.readouterr()
    for where in spellings(url):
        assert main(["channels", *where]) == 0
        assert capsys.readouterr().out.startswith("chat-42\t")
        assert main(["doctor", *where]) == 0
        capsys.readouterr()
    for where in ([url, "chat-42"], [url, "--channel", "chat-42"]):
        assert main(["replay", *where, "--speed=max", "--plain", "--to", url, "--into=again"]) == 0
    with tw.open_sink(url) as sink:
        assert {response.text for response in sink.history("again").items} == {"Hello"}


def test_a_text_that_is_an_address_is_sent(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with tw.open_sink(url) as sink, sink.respond("chat-42"):
        pass
    text = "https://example.com/a"
    assert main(["send", "--to", url, "--channel", "chat-42", text]) == 0
    assert main(["send", "--to", url, "chat-42", text]) == 0
    assert main(["send", "--to", url, text, "--channel", "chat-42", text]) == 2
    assert "give the URL once" in capsys.readouterr().err


@pytest.mark.parametrize("way", range(4))
def test_run_takes_both_spellings(url: str, way: int) -> None:
    where = spellings(url, "chat-42")[way]
    code = "import os; print(os.environ['TOKENWIRE_URL'], os.environ['TOKENWIRE_CHANNEL'])"
    if "--to" in where and "chat-42" in where:
        where = ["--to", url, "--channel", "chat-42"]  # by itself it would be the program's name
    done = tokenwire("run", *where, "--proxy=never", "--", sys.executable, "-c", code, "--", "x")
    assert done.stdout.split() == [url, "chat-42"], done.stderr


@pytest.mark.parametrize("way", range(4))
def test_the_proxy_takes_both_spellings(url: str, way: int) -> None:
    where = spellings(url, "chat-42")[way]
    with serve_in_thread(pace=0) as provider:
        provider.script("Hello")
        upstream = f"local={provider.root_url}"
        with Running("proxy", *where, "--upstream", upstream, "--port", "0") as proxy:
            origin = proxy.line(r"tokenwire proxy: (http://\S+) \(sqlite:")[1]
            question = {"model": "any", "messages": [{"role": "user", "content": "Hi"}]}
            reply = httpx.post(f"{origin}/local/v1/chat/completions", json=question, timeout=60)
            assert reply.status_code == 200
    with tw.open_sink(url) as sink:
        assert [response.text for response in sink.history("chat-42").items] == ["Hello"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("history", "redis://a", "c", "--to", "redis://b"), "give the URL once"),
        (("doctor", "redis://a", "--to", "redis://b"), "give the URL once"),
        (("history", "redis://a", "c", "--channel", "d"), "too many arguments"),
        (("run", "redis://a", "--to", "redis://b", "--", "python"), "--to is given twice"),
        (("run", "redis://a", "c", "--channel", "d", "--", "python"), "--channel is given twice"),
        (("run", "redis://a", "python", "agent.py"), "put -- before the program"),
        (("run", "redis://a", "c", "--"), "name the program"),
        (("run", "redis://a", "c", "d", "--", "python"), "nothing else: d"),
        (("demo", "redis://a", "--keep"), "--keep"),
    ],
)
def test_what_is_said_twice_or_not_at_all_is_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
