"""An instrumentor from another package: found by its entry point, treated like our own."""

import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.installing import install
from tests.support.pages import code_blocks

TEXT = "Hello from the toy."
CHUNKS = [{"text": "Hello "}, {"text": "from "}, {"text": "the toy."}]
END = {"finish_reason": "stop", "usage": {"output_tokens": 3}}


class Provider(ThreadingHTTPServer):
    """Replies on loopback, a JSON object a line. After ``hang`` it sends a chunk and no more.

    :ivar hung_up: the client has closed a connection on which it was sent nothing more.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hung_up = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = request["prompt"]
        self.send_response(429 if prompt == "refuse" else 200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        chunks = {"fail": [CHUNKS[0], {"error": "overloaded"}], "hang": CHUNKS[:1], "refuse": []}
        for chunk in chunks.get(prompt, [*CHUNKS, END]):
            self._send(json.dumps(chunk).encode() + b"\n")
        if prompt != "hang":
            self._send(b"")
            return
        try:
            closed = self.rfile.read(1) == b""
        except ConnectionResetError:  # it closed before it had read all that was sent
            closed = True
        if closed:
            self.server.hung_up.set()

    def _send(self, chunk: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> dict[str, str]:
    """An environment in which the package is installed."""
    env = install("instrumentor", tmp_path_factory.mktemp("installed"))
    for name in ("TOKENWIRE_URL", "TOKENWIRE_CHANNEL", "TOKENWIRE_DISABLED"):
        env.pop(name, None)
    return {**env, "TOY_PORT": str(provider.server_port)}


Run = Callable[..., Any]

# An agent that knows nothing of tokenwire.
AGENT = """
import os, sys
import toysdk

client = toysdk.Client("127.0.0.1", int(os.environ["TOY_PORT"]))

def ask(prompt="hi", stream=True):
    reply = client.generate(prompt, model="toy-1", stream=stream)
    if not stream:
        return reply.text
    with reply:
        return "".join(chunk.text for chunk in reply)
"""

# What it published, as the last line that the program prints.
REPORT = """
import json, msgspec
print(json.dumps(
    [msgspec.to_builtins(each) for each in reversed(sink.history("c").items)]
))
"""


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    (tmp_path / "agent.py").write_text(AGENT)

    def run(program: str, *command: str) -> Any:
        """Run a program after tokenwire's start; return what it reports."""
        (tmp_path / "program.py").write_text(textwrap.dedent(program))
        done = subprocess.run(
            command or [sys.executable, "program.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=270,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout.splitlines()[-1])

    return run


OPEN = """
import tokenwire
from tokenwire_adapters import auto
sink = tokenwire.open_sink("memory://toy", strict=True)
"""


def check(response: Any, text: str = TEXT) -> None:
    assert "".join(part["text"] for part in response["parts"]) == text
    assert (response["state"], response["finish_reason"]) == ("complete", "stop")
    assert response["usage"] == {"output_tokens": 3}
    assert response["metadata"] == {"provider": "toy", "api": "generate", "model": "toy-1"}


@pytest.mark.parametrize("first", ["from agent import ask", ""], ids=["imported", "not-imported"])
def test_auto(first: str, run: Run) -> None:
    streamed, whole = run(f"""
{first}
{OPEN}
undo = auto.install(sink, channel="c")
from agent import ask
ask()
ask(stream=False)
undo()
ask()
import toysdk
assert not hasattr(toysdk.Client.generate, "__wrapped__")
{REPORT}
""")
    check(streamed)
    check(whole)


def test_it_is_loaded_with_its_sdk(run: Run) -> None:
    before, after = run("""
import json, sys
from tokenwire_adapters import auto
auto.install()
import msgspec  # any package
before = "tokenwire_toysdk" in sys.modules
import toysdk
print(json.dumps([before, "tokenwire_toysdk" in sys.modules]))
""")
    assert (before, after) == (False, True)


def test_the_command_line(run: Run) -> None:
    program = """
from agent import ask
ask()
# The store of this process; the agent itself names no sink.
import asyncio, json, msgspec, tokenwire
store = tokenwire.MemoryBackend.from_url("memory://run")
print(json.dumps(msgspec.to_builtins(asyncio.run(store.history("c", limit=9)).items)))
"""
    tokenwire = [sys.executable, "-m", "tokenwire_adapters._tools.cli.run"]
    options = ["--to", "memory://run", "--channel", "c", "--"]
    (response,) = run(program, *tokenwire, *options, sys.executable, "program.py")
    check(response)


def test_doctor_lists_it(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tokenwire_adapters.cli", "doctor", "memory://"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=270,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if "toysdk" in line]
    assert "tokenwire-toysdk 1.0" in line


@pytest.mark.parametrize("installed", [False, True])
def test_a_claim_of_a_layer_above(installed: bool, run: Run) -> None:
    """A framework's handler opens a claim: the SDK below writes the call, and nobody else."""
    (response,) = run(f"""
from agent import ask
{OPEN}
from tokenwire.claims import Claim, claiming
from tokenwire.instrument import record_claimed_calls
if {installed}:
    auto.install(sink, channel="c")
record_claimed_calls()
known = {{"channel": "c", "run": "run-1", "response_id": "upper-1"}}
claim = Claim(**known, metadata={{"framework": "upper"}}, sink=sink)
with claiming(claim):
    ask()
assert claim.taken and claim.writer.id == "upper-1"
auto.uninstall()
ask()  # not covered by a claim: not recorded
{REPORT}
""")
    assert response["metadata"].pop("framework") == "upper"
    check(response)
    assert (response["id"], response["run"]) == ("upper-1", "run-1")


def test_a_suppressed_claim(run: Run) -> None:
    assert (
        run(f"""
from agent import ask
{OPEN}
from tokenwire.claims import Claim, claiming
auto.install(sink, channel="c")
claim = Claim()
claim.suppress(object())
with claiming(claim):
    ask()
{REPORT}
""")
        == []
    )


def test_one_client(run: Run) -> None:
    (response,) = run(f"""
import agent
{OPEN}
from tokenwire_toysdk import unwrap, wrap
other = agent.client
agent.client = agent.toysdk.Client("127.0.0.1", int(agent.os.environ["TOY_PORT"]))
assert wrap(agent.client, sink, channel="c") is agent.client
agent.ask()
unwrap(agent.client)
agent.ask()
agent.client = other
agent.ask()
{REPORT}
""")
    check(response)


@pytest.mark.parametrize(
    ("prompt", "error"), [("fail", "overloaded"), ("refuse", "HTTP 429")], ids=["midway", "refused"]
)
def test_failures_are_the_sdks_own(prompt: str, error: str, run: Run) -> None:
    (response,) = run(f"""
from agent import ask, toysdk
{OPEN}
auto.install(sink, channel="c")
try:
    ask("{prompt}")
except toysdk.ToyError as error:
    assert "{error}" in str(error)
else:
    raise AssertionError
{REPORT}
""")
    assert response["state"] == "failed"
    assert error in response["error"]


@pytest.mark.parametrize(
    "leave",
    ["stream.close()", "del stream", "next(stream); del stream", "next(stream); stream.close()"],
)
def test_a_stream_that_is_left(leave: str, run: Run, provider: Provider) -> None:
    provider.hung_up.clear()
    (response,) = run(f"""
from agent import client
{OPEN}
auto.install(sink, channel="c")
stream = client.generate("hang", model="toy-1", stream=True)
{leave}
with sink.watch("c", rewind="all") as watch:
    for event in watch:
        if event.type == "end" or event.type == "snapshot" and event.response.ended:
            break
{REPORT}
""")
    assert response["state"] == "cancelled"
    assert provider.hung_up.wait(60)


def test_a_cancel_stops_the_provider(run: Run, provider: Provider) -> None:
    """While the agent waits for the next chunk, which never comes."""
    provider.hung_up.clear()
    (response,) = run(f"""
import threading
from agent import ask
{OPEN}
auto.install(sink, channel="c")

def watch():
    with sink.watch("c", rewind="all") as watch:
        for event in watch:
            if event.type == "delta" or event.type == "snapshot" and event.response.text:
                break
    response = sink.history("c").items[0].id
    assert sink.cancel("c", response, reason="enough").state == "cancelled"

watcher = threading.Thread(target=watch)
watcher.start()
assert ask("hang") == "Hello "  # the loop ends, as if the stream were over
watcher.join()
{REPORT}
""")
    assert (response["state"], response["parts"][0]["text"]) == ("cancelled", "Hello ")
    assert provider.hung_up.wait(60)


def test_the_page_shows_the_file_as_it_is() -> None:
    docs = Path(__file__).parents[2] / "docs"
    source = (Path(__file__).parent / "instrumentor" / "tokenwire_toysdk.py").read_text()
    assert len(source.splitlines()) <= 150
    pages = "".join(page.read_text("utf-8") for page in docs.glob("extending*.md"))
    section = pages.partition("## A provider SDK\n")[2].partition("\n## ")[0]
    blocks = code_blocks(section, "python")
    assert len(blocks) == 6
    for block in blocks:
        assert block.strip() in source or textwrap.indent(block, "    ").strip() in source
