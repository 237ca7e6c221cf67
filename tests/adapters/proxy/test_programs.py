"""Programs that are not Python, unmodified, under `tokenwire run` and through `tokenwire proxy`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tokenwire
from tests.adapters.cli.support import PATIENCE, Running, command, environment
from tests.redis_support import RedisServer
from tests.support.needs import missing, needs
from tests.support.nodejs import node_with
from tests.support.sdk import ended, responses
from tokenwire import Response, Sink
from tokenwire_adapters.testing.provider import Provider, serve_in_thread

needs("redis")

pytestmark = pytest.mark.slow

_JS = Path(__file__).parent / "js"
TEXT = "Tea is 茶, made of leaves 🙂 and <b>water</b>."
WAYS = {
    "chat": "chat.completions",
    "responses": "responses",
    "messages": "messages",
    "ai-openai": "responses",
    "ai-openai-chat": "chat.completions",
    "ai-anthropic": "messages",
}
NOTHING = "tokenwire run: no response was published"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serve_in_thread(pace=0) as provider:
        yield provider


@pytest.fixture
def sink(shared_redis: RedisServer) -> Iterator[Sink]:
    with tokenwire.open_sink(shared_redis.url, strict=True) as sink:
        yield sink


def variables(sink: Sink, provider: Provider, **more: str) -> dict[str, str]:
    base = {
        name: value
        for name, value in environment().items()
        if not name.endswith(("_BASE_URL", "_API_BASE"))
    }
    keys = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    return {**base, **keys, **more}


def run(
    shared_redis: RedisServer, env: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("run", "--to", shared_redis.url, "--channel", "c", *arguments),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=env,
        timeout=4 * PATIENCE,
        check=False,
    )


def upstreams(provider: Provider) -> list[str]:
    """What stands for api.openai.com and api.anthropic.com, whose URLs end with the version."""
    names = ("openai", "anthropic")
    return [part for name in names for part in ("--upstream", f"{name}={provider.base_url}")]


def the_response(sink: Sink) -> Response:
    (_,) = responses(sink, "c")
    return ended(sink, "c")


@pytest.mark.parametrize("way", WAYS)
def test_node(way: str, shared_redis: RedisServer, sink: Sink, provider: Provider) -> None:
    node = node_with(_JS / "package.json", major=22)
    provider.script(TEXT)
    program = [node.executable, str(node.script(_JS / "agent.mjs")), way]
    env = variables(sink, provider)
    done = run(shared_redis, env, *upstreams(provider), "--", *program)
    assert done.stderr == ""
    assert done.returncode == 3
    assert json.loads(done.stdout.splitlines()[-1])["text"] == TEXT
    response = the_response(sink)
    assert (response.text, response.state) == (TEXT, "complete")
    assert response.metadata["api"] == WAYS[way]
    assert response.usage


@pytest.mark.parametrize("suffix", ["/v1", ""])
def test_a_base_url_that_the_user_has_set_is_the_upstream(
    suffix: str, shared_redis: RedisServer, sink: Sink, provider: Provider
) -> None:
    node = node_with(_JS / "package.json", major=22)
    provider.script(TEXT)
    root = provider.base_url.removesuffix("/v1")
    env = variables(sink, provider, OPENAI_BASE_URL=root + suffix)
    program = [node.executable, str(node.script(_JS / "agent.mjs")), "chat"]
    done = run(shared_redis, env, "--", *program)
    assert json.loads(done.stdout.splitlines()[-1])["text"] == TEXT
    assert the_response(sink).text == TEXT


@pytest.mark.parametrize("way", ["chat", "messages"])
def test_a_watchers_cancel_ends_the_stream_of_a_node_program(
    way: str, shared_redis: RedisServer, sink: Sink, provider: Provider
) -> None:
    node = node_with(_JS / "package.json", major=22)
    provider.pace = 50
    provider.script("word " * 5000)
    program = [node.executable, str(node.script(_JS / "agent.mjs")), way]
    arguments = ["run", "--to", shared_redis.url, "--channel", "c", *upstreams(provider)]
    with subprocess.Popen(
        command(*arguments, "--", *program),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables(sink, provider),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "begun\n", process.stderr.read()
        with sink.watch("c", rewind="all") as watch:  # Redis may have it later than the program
            response_id = next(watch).response_id
        outcome = sink.cancel("c", response_id or "")
        assert outcome.state == "cancelled"
        assert provider.records[-1].wait() == "closed_early"
        process.communicate(timeout=PATIENCE)
    response = the_response(sink)
    assert response.state == "cancelled"
    assert provider.records[-1].text.startswith(response.text)


CURL = r"""
curl -sN "$OPENAI_BASE_URL/chat/completions" -H "authorization: Bearer $OPENAI_API_KEY" \
  -H 'content-type: application/json' --compressed \
  -d '{"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true}'
"""


def test_curl(shared_redis: RedisServer, sink: Sink, provider: Provider) -> None:
    if shutil.which("curl") is None:
        missing("needs curl")
    provider.script(TEXT)
    env = variables(sink, provider)
    done = run(shared_redis, env, *upstreams(provider), "--", "sh", "-c", CURL)
    assert done.returncode == 0
    assert done.stdout.endswith("data: [DONE]\n\n")
    assert the_response(sink).text == TEXT


def test_curl_through_the_proxy_alone(
    shared_redis: RedisServer, sink: Sink, provider: Provider
) -> None:
    if shutil.which("curl") is None:
        missing("needs curl")
    provider.script(TEXT)
    arguments = ["--upstream", f"openai={provider.base_url}", "--to", shared_redis.url]
    with Running("proxy", *arguments, "--channel", "c", "--port", "0") as proxy:
        address = proxy.line(r"OPENAI_BASE_URL=(\S+)")[1]
        env = {**os.environ, "OPENAI_BASE_URL": address, "OPENAI_API_KEY": "secret"}
        done = subprocess.run(
            ["sh", "-c", CURL],
            env=env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    assert proxy.status == 0
    assert done.stdout.endswith("data: [DONE]\n\n")
    assert the_response(sink).text == TEXT
    assert "secret" not in "".join(proxy.output)


PYTHON = """
import os
from openai import OpenAI

with OpenAI(max_retries=0) as client:
    messages = [{"role": "user", "content": "hi"}]
    stream = client.chat.completions.create(model="m", messages=messages, stream=True)
    print("".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))
print([name for name in os.environ if name.startswith(("TOKENWIRE_PROXY", "ANTHROPIC_BASE"))])
"""


@pytest.mark.parametrize(
    ("flags", "through_proxy"), [([], False), (["--proxy", "always"], True)], ids=["auto", "always"]
)
def test_python_that_another_program_starts_publishes_once(
    flags: list[str],
    through_proxy: bool,
    shared_redis: RedisServer,
    sink: Sink,
    provider: Provider,
    tmp_path: Path,
) -> None:
    """It publishes by itself, and passes the proxy by; or has no instrumentor."""
    (tmp_path / "agent.py").write_text(PYTHON)
    provider.script(TEXT)
    env = variables(sink, provider, OPENAI_BASE_URL=provider.base_url)
    shell = f"{sys.executable} {tmp_path / 'agent.py'}; exit 5"
    done = run(shared_redis, env, *flags, "--", "sh", "-c", shell)
    assert (done.stderr, done.returncode) == ("", 5)
    names = "['ANTHROPIC_BASE_URL', 'TOKENWIRE_PROXY']" if through_proxy else "[]"
    text, listed = done.stdout.splitlines()
    assert text == TEXT
    assert sorted(eval(listed)) == eval(names)
    response = the_response(sink)
    assert response.text == TEXT
    assert ("upstream" in response.metadata) is through_proxy


def run_behind_proxy(
    code: str, shared_redis: RedisServer, sink: Sink, provider: Provider, tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    """Run a program of Python that is sent through the proxy."""
    (tmp_path / "agent.py").write_text(code)
    provider.script(TEXT, TEXT)
    urls = {"OPENAI_BASE_URL": provider.base_url}
    urls["ANTHROPIC_BASE_URL"] = provider.base_url.removesuffix("/v1")
    program = [sys.executable, str(tmp_path / "agent.py")]
    env = variables(sink, provider, **urls)
    return run(shared_redis, env, "--proxy", "always", "--", *program)


OWN_CODE = {
    "install": """
from tokenwire_adapters import auto
auto.install()
""",
    "wrap": """
import openai
from tokenwire_adapters.openai import wrap
make = openai.OpenAI
openai.OpenAI = lambda **options: wrap(make(**options))
""",
    "wrap into a sink of its own": """
import openai, tokenwire
from tokenwire_adapters.openai import wrap
make, sink = openai.OpenAI, tokenwire.open_sink("memory://")
openai.OpenAI = lambda **options: wrap(make(**options), sink, channel="own")
import atexit
atexit.register(lambda: print(len(sink.history("own").items)))
""",
}


@pytest.mark.parametrize(
    ("own", "through_proxy"),
    [("install", False), ("wrap", False), ("wrap into a sink of its own", True)],
    ids=list(OWN_CODE),
)
def test_python_that_publishes_by_its_own_code_behind_the_proxy_publishes_once(
    own: str,
    through_proxy: bool,
    shared_redis: RedisServer,
    sink: Sink,
    provider: Provider,
    tmp_path: Path,
) -> None:
    """The proxy passes on unread what is published to its backend already, and only that."""
    done = run_behind_proxy(OWN_CODE[own] + PYTHON, shared_redis, sink, provider, tmp_path)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines()[0] == TEXT
    response = the_response(sink)
    assert response.text == TEXT
    assert ("upstream" in response.metadata) is through_proxy
    if through_proxy:
        assert done.stdout.splitlines()[-1] == "1"


OTHERS = {
    "LangChain": """
from langchain_openai import ChatOpenAI
from tokenwire_adapters.langchain import TokenwireCallbackHandler

model = ChatOpenAI(model="m", max_retries=0)
chunks = model.stream("hi", config={"callbacks": [TokenwireCallbackHandler()]})
print("".join(chunk.text for chunk in chunks))
""",
    "Anthropic": """
import asyncio
from anthropic import Anthropic, AsyncAnthropic
from tokenwire_adapters.anthropic import wrap

request = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}

async def main():
    async with wrap(AsyncAnthropic(max_retries=0)) as client:
        async with client.messages.stream(**request) as stream:
            print("".join([text async for text in stream.text_stream]))

asyncio.run(main())
with wrap(Anthropic(max_retries=0)) as client:
    reply = client.messages.create(**request)
    print(reply.content[0].text)
""",
}


@pytest.mark.parametrize("program", OTHERS.values(), ids=OTHERS)
def test_other_layers_behind_the_proxy_publish_once(
    program: str, shared_redis: RedisServer, sink: Sink, provider: Provider, tmp_path: Path
) -> None:
    done = run_behind_proxy(program, shared_redis, sink, provider, tmp_path)
    lines = done.stdout.splitlines()
    assert (set(lines), done.stderr) == ({TEXT}, "")
    published = responses(sink, "c")
    assert [response.text for response in published] == lines
    assert not any("upstream" in response.metadata for response in published)


LISTENED = """
import json, os
import httpx
from tokenwire.claims import Claim, claiming
from tokenwire_adapters import auto

auto.install()
with claiming(Claim(channel="c")) as claim:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    httpx.post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", json=body, timeout=60)
print(claim.taken, claim.writer)
"""


def test_a_framework_behind_the_proxy_whose_http_client_alone_is_seen(
    shared_redis: RedisServer, sink: Sink, provider: Provider, tmp_path: Path
) -> None:
    """Its handler finds the call taken, and writes nothing beside the proxy."""
    done = run_behind_proxy(LISTENED, shared_redis, sink, provider, tmp_path)
    assert (done.stdout, done.stderr) == ("True None\n", "")
    assert the_response(sink).metadata["upstream"] == "openai"


def test_python_itself_has_no_proxy(
    shared_redis: RedisServer, sink: Sink, provider: Provider, tmp_path: Path
) -> None:
    (tmp_path / "agent.py").write_text(PYTHON)
    provider.script(TEXT)
    env = variables(sink, provider, OPENAI_BASE_URL=provider.base_url)
    done = run(shared_redis, env, "--", sys.executable, str(tmp_path / "agent.py"))
    assert done.stdout.splitlines() == [TEXT, "[]"]
    assert "upstream" not in the_response(sink).metadata


def test_a_run_within_a_run_publishes_once(
    shared_redis: RedisServer, sink: Sink, provider: Provider
) -> None:
    if shutil.which("curl") is None:
        missing("needs curl")
    provider.script(TEXT)
    env = variables(sink, provider, OPENAI_BASE_URL=provider.base_url)
    inner = command("run", "--channel", "c", "--", "sh", "-c", CURL)
    done = run(shared_redis, env, "--proxy", "auto", "--", "env", *inner)
    assert done.stdout.endswith("data: [DONE]\n\n")
    assert the_response(sink).text == TEXT


@pytest.mark.parametrize(
    ("shell", "status"), [("exit 4", 4), ("kill -KILL $$", -signal.SIGKILL), ("true", 0)]
)
def test_it_says_that_nothing_was_published(
    shell: str, status: int, shared_redis: RedisServer, sink: Sink, provider: Provider
) -> None:
    done = run(shared_redis, variables(sink, provider), "--", "sh", "-c", shell)
    assert done.returncode == status
    assert done.stderr.startswith(NOTHING)
    assert len(done.stderr.splitlines()) == 1


def test_disabled(shared_redis: RedisServer, sink: Sink, provider: Provider) -> None:
    env = variables(sink, provider, TOKENWIRE_DISABLED="1")
    done = run(shared_redis, env, "--", "sh", "-c", "echo ${OPENAI_BASE_URL:-none}")
    assert (done.stdout, done.stderr) == ("none\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_program(
    number: signal.Signals, shared_redis: RedisServer, sink: Sink, provider: Provider
) -> None:
    shell = "trap 'echo caught; exit 9' TERM INT HUP; echo up; while :; do sleep 0.05; done"
    with subprocess.Popen(
        command("run", "--to", shared_redis.url, "--", "sh", "-c", shell),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=variables(sink, provider),
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.stdout.readline() == b"caught\n"
        assert process.wait(PATIENCE) == 9


def test_a_value_that_is_no_url_stays(
    shared_redis: RedisServer, sink: Sink, provider: Provider
) -> None:
    env = variables(sink, provider, OPENAI_BASE_URL="https://user:secret@example.com/v1")
    done = run(shared_redis, env, "--", "sh", "-c", 'echo "$OPENAI_BASE_URL"')
    assert done.stdout == "https://user:secret@example.com/v1\n"
    assert "$OPENAI_BASE_URL" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--upstream", "openai"], "can be reached from other machines"),
        (["--upstream", "nobody"], "NAME=URL"),
        (["--upstream", "x=https://u:secret@h"], "no user"),
        (["--upstream", "openai", "--upstream", "openai=http://x"], "two upstreams"),
        ([], "at least one"),
    ],
)
def test_command_lines_that_are_wrong(arguments: list[str], said: str) -> None:
    host = ["--host", "0.0.0.0"] if "reached" in said else []
    done = subprocess.run(
        command("proxy", *arguments, *host, "--port", "0", "--to", "memory://"),
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "secret" not in done.stderr
