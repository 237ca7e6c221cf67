"""The command line, in processes of its own."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.needs import needs

needs("uvicorn")
needs("openai")

import httpx

import tokenwire as tw
from tests.adapters.cli.support import Running, tokenwire
from tests.adapters.gateway.support import SECRET, serving
from tests.redis_support import RedisServer, find_binaries
from tests.support.frameworks import wait_until
from tokenwire_adapters.asgi import Gateway, Tokens
from tokenwire_adapters.cli import main


def test_version_and_help() -> None:
    done = tokenwire("--version")
    assert (done.returncode, done.stdout) == (0, f"tokenwire {tw.__version__}\n")
    for arguments in (["--help"], *([name, "--help"] for name in _NAMES)):
        done = tokenwire(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("usage: tokenwire")


_NAMES = ("demo", "watch", "serve", "run", "doctor", "token")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), ""),
        (("nonsense",), "invalid choice"),
        (("watch", "c"), "memory:// lives inside"),
        (("watch", "redis://localhost"), "name the channel"),
        (("watch", "--from", "redis://localhost", "c"), "unrecognized arguments: --from"),
        (("watch", "a", "b", "c"), "too many arguments"),
        (("watch", "redis://localhost", "c", "--rewind", "soon"), "rewind must be"),
        (("watch", "nothing://here", "c"), "known are"),
        (("serve", "--host", "0.0.0.0"), "--key-file"),
        (("serve", "--host", "::"), "--authorize"),
        (("serve", "--port", "99999"), "--port"),
        (("serve", "--tls-cert", "x"), "go together"),
        (("serve", "--issuer", "x"), "no key"),
        (("serve", "--authorize", "json"), "MODULE:FUNCTION"),
        (("serve", "--authorize", "json:nothing"), "cannot load"),
        (("serve", "--key-file", "/does/not/exist"), "cannot read the key"),
        (("demo", "--model", "gpt-5"), "OPENAI_API_KEY"),
        (("demo", "--port", "-2"), "--port"),
        (("demo", "--keep", "--to", "redis://localhost"), "--keep"),
        (("doctor", "redis://127.0.0.1:1"), "Is it running"),
        (("doctor", "http://127.0.0.1:1/stream"), "cannot reach"),
        (("token", "--allow", "c=read"), "--allow takes"),
        (("token",), "allow something"),
        (("token", "--allow", "c=*"), "--new-secret"),
        (("run",), "name the program"),
    ],
)
def test_says_what_is_wrong(
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TOKENWIRE_URL", "TOKENWIRE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert main(arguments) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_missing_extra_names_its_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    for name in (
        "tokenwire_adapters._tools.cli.server",
        "tokenwire_adapters._tools.cli.demo_server",
    ):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    assert main(["serve"]) == 1
    assert 'pip install "tokenwire[cli]"' in capsys.readouterr().err


@pytest.mark.slow
def test_demo_once() -> None:
    done = tokenwire("demo", "--once", "a brief story of the sea", "--pace", "0")
    assert done.returncode == 0, done.stderr
    assert "lighthouse" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_demo_serves_its_page_and_its_agent() -> None:
    with Running("demo", "--no-browser", "--port", "0", "--pace", "300") as demo:
        url = demo.line(r"http://127.0.0.1:\d+/")[0]
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            page = client.get("/")
            policy = page.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
            for path in re.findall(r'(?:src|href)="([^"#]+)"', page.text):
                assert client.get(path).status_code == 200, path
            question = {"channel": "c", "question": "brief tea"}
            assert client.post("/questions", json=question).status_code == 202
            watched = tokenwire("watch", f"{url}stream", "c", "--rewind", "all", "--once")
            assert watched.returncode == 0
            assert "茶" in watched.stdout
            assert "── complete" in watched.stdout
            healthy = tokenwire("doctor", f"{url}stream")
            assert "status: ok" in healthy.stdout
    assert demo.status == 0
    assert "Traceback" not in "".join(demo.output)


@pytest.mark.slow
def test_demo_says_what_there_is_to_see() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Running("demo", "--no-browser", "--port", str(port)) as demo:
            demo.line("Ctrl-C ends the demo")
            url = demo.output[0].split()[-1]
    shown = "".join(demo.output)
    assert url != f"http://127.0.0.1:{port}/"
    assert f"port {port} is in use" in shown
    assert "Pick a question" in shown
    assert f"tokenwire watch {url}stream CHAT" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.slow
def test_demo_keeps_its_history_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a demo.db"
    for start in range(2):
        with Running("demo", "--no-browser", "--port", "0", "--keep", str(file)) as demo:
            assert demo.line("backend: ")
            url = demo.output[0].split()[-1]
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
                if start == 0:
                    question = {"channel": "c", "question": "brief tea"}
                    assert client.post("/questions", json=question).status_code == 202
                    watched = tokenwire("watch", f"{url}stream", "c", "--rewind", "all", "--once")
                    assert "── complete" in watched.stdout
                kept = client.get("/stream/channels/c/responses").json()
                assert [one["state"] for one in kept["items"]] == ["complete"]
    healthy = tokenwire("doctor", f"sqlite:///{quote(str(file))}")
    assert "SQLiteBackend" in healthy.stdout
    assert healthy.returncode == 0
    again = tokenwire("doctor", f"sqlite:///{tmp_path}/no/such.db")
    assert "there is no directory" in again.stdout + again.stderr
    assert again.returncode != 0


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"headers": {"host": "evil.example"}}, 403),
        ({"headers": {"host": "127.0.0.1:80; script-src *"}}, 403),
        ({"headers": {"host": "127.0.0.1.evil.example"}}, 403),
        ({"headers": {"origin": "http://127.0.0.1:1"}}, 403),
        ({"headers": {"origin": "http://evil.example"}}, 403),
        ({"headers": {"content-type": "text/plain"}}, 415),
        ({"content": b"{"}, 400),
        ({"content": b"[" * 20000}, 400),
        ({"content": b"x" * 40000}, 413),
        ({"json": []}, 422),
        ({"json": {"channel": "a/b", "question": "q"}}, 422),
        ({"json": {"channel": "c", "question": " "}}, 422),
        ({"json": {"channel": "c", "question": "q" * 5000}}, 422),
        ({"json": {"channel": "c", "question": "q", "model": "other"}}, 422),
        ({"json": {"channel": "c", "question": "q", "tools": "yes"}}, 422),
    ],
)
async def test_demo_refuses(change: dict[str, object], status: int) -> None:
    from openai import AsyncOpenAI

    from tokenwire_adapters._tools.demo.app import Demo

    with tw.open_sink(tw.MemoryBackend()) as sink:
        client = AsyncOpenAI(api_key="unused", base_url="http://127.0.0.1:1")
        demo = Demo(sink, client, models=("m",))
        request = {"json": {"channel": "c", "question": "q"}, **change}
        if "content" in change:
            del request["json"]
            request["headers"] = {"content-type": "application/json"}
        transport = httpx.ASGITransport(app=demo.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            assert (await http.post("/questions", **request)).status_code == status
            assert (await http.get("/assets/..%2Ftokenwire.js")).status_code == 404
        await demo.aclose()
        await client.close()


def test_watch_through_a_gateway_that_goes_away(tmp_path: Path) -> None:
    with tw.open_sink(tw.MemoryBackend(), strict=True) as sink:
        gateway = Gateway(sink, tokens=Tokens(SECRET))
        minted = tokenwire(
            "token", "--allow", "c*=subscribe", "--subject", "u1", "--lifetime", "5m",
            TOKENWIRE_KEY=SECRET,
        )  # fmt: skip
        assert minted.returncode == 0, minted.stderr
        file = tmp_path / "token"
        file.write_text(minted.stdout)
        with serving(gateway) as server:
            response = sink.respond("c", response_id="r1", metadata={"model": "m\x1b[31m"})
            response.write("Hel\x1b[2J")
            with Running(
                "watch", server.url, "c", "--rewind", "all", "--once", "--token-file", str(file)
            ) as watch:
                assert "m\ufffd[31m" in watch.line("── r1")[0] + "".join(watch.output)
                response.write("lo\n")
                watch.line("^Hel\ufffd\\[2Jlo$")
                response.finish()
                watch.line("── complete")
                assert watch.process.wait(60) == 0
            refused = tokenwire("watch", server.url, "other", TOKENWIRE_TOKEN=minted.stdout.strip())
            assert refused.returncode == 1
            assert "does not allow" in refused.stderr
            assert minted.stdout.strip() not in refused.stderr


def _minted(*arguments: str) -> str:
    done = tokenwire("token", *arguments, TOKENWIRE_KEY=SECRET)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.redis
def test_serve_watch_and_doctor_on_redis() -> None:
    if not find_binaries():
        pytest.skip("no redis-server here")
    with RedisServer() as redis, tw.open_sink(redis.url) as sink:
        with Running("serve", redis.url, "--port", "0", TOKENWIRE_KEY=SECRET) as gateway:
            url = gateway.line(r"http://127.0.0.1:\d+")[0]
            token = _minted("--allow", "*=*", "--lifetime", "4m")
            with sink.respond("c", response_id="r1") as response:
                response.write("Hello")
            assert response.receipt
            for where in (redis.url, url):
                done = tokenwire(
                    "watch", where, "c", "--response", "r1", "--json", TOKENWIRE_TOKEN=token
                )
                assert done.returncode == 0, done.stderr
                events = [json.loads(line) for line in done.stdout.splitlines()]
                assert "Hello" in json.dumps(events)
            answer = httpx.get(
                f"{url}/channels/c/events?wait=0&token={token}", trust_env=False, timeout=60
            )
            assert answer.status_code in (200, 204)
            health = tokenwire("doctor", redis.url)
            assert health.returncode == 0
            assert "RedisBackend" in health.stdout
            for extra in ("ag-ui", "cli", "testing"):
                assert re.search(rf"^  {extra} +\w", health.stdout, re.MULTILINE)
        assert gateway.status == 0
        log = "".join(gateway.output)
        assert "GET /channels/c/events" in log
        assert "token=***" in log
        assert token not in log


@pytest.mark.slow
def test_serve_serves_a_channel_of_a_file(tmp_path: Path) -> None:
    """What another process writes to the file reaches a watcher of the gateway, also live."""
    file = f"sqlite:///{tmp_path}/chat.db"
    with (
        tw.open_sink(file) as sink,
        Running("serve", file, "--port", "0", TOKENWIRE_KEY=SECRET) as gateway,
    ):
        url = gateway.line(r"http://127.0.0.1:\d+")[0]
        token = _minted("--allow", "*=*", "--lifetime", "4m")
        response = sink.respond("c", response_id="r1")
        response.write("Hello, ")
        assert sink.flush(60)
        watch = ("watch", url, "c", "--rewind", "all", "--once", "--json")
        with Running(*watch, TOKENWIRE_TOKEN=token) as watcher:
            watcher.line("Hello, ")
            response.write("world")
            response.finish()
            watcher.line("world")
            watcher.line('"end"')
        health = tokenwire("doctor", file)
        assert (health.returncode, "SQLiteBackend" in health.stdout) == (0, True)
    assert gateway.status == 0


def test_serve_drops_clients_that_send_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never ends the head of its request is not kept (slowloris)."""
    from tokenwire_adapters._tools.cli import quirks
    from tokenwire_adapters._tools.cli import server as settings

    monkeypatch.setattr(quirks, "HEADER_TIMEOUT", 0.5)
    with tw.open_sink(tw.MemoryBackend()) as sink:
        configuration = settings.config(Gateway(sink), lifespan="off")
        options = {"http": configuration.http, "lifespan": "off", "timeout_keep_alive": 30}
        with serving(Gateway(sink), **options) as server:
            for head in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "):
                with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
                    client.sendall(head)
                    assert _closed(client)
            kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            # The first head has more time, so that this thread may be slow.
            with monkeypatch.context() as patience:
                patience.setattr(quirks, "HEADER_TIMEOUT", 60.0)
                kept.connect()
                connections = server.server.server_state.connections
                wait_until(lambda: any(each._head_timer for each in list(connections)))
            for pause in (0.8, 0.0):  # between requests, keep-alive's own limit counts
                kept.request("GET", "/healthz")
                assert kept.getresponse().read().startswith(b"{")
                time.sleep(pause)
            kept.sock.sendall(b"GET /healthz HT")
            assert _closed(kept.sock)
            kept.close()


def _closed(client: socket.socket) -> bool:
    """Wait until the server has hung up; it must not say anything before."""
    try:
        return client.recv(4096) == b""
    except ConnectionResetError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("serve",), ("demo", "--no-browser")])
def test_ctrl_c_tells_clients_to_come_back(arguments: tuple[str, ...]) -> None:
    with Running(*arguments, "--port", "0") as running:
        url = running.line(r"http://127.0.0.1:\d+")[0] + ("/stream" if "demo" in arguments else "")
        with (
            httpx.Client(trust_env=False, timeout=60) as client,
            client.stream("GET", f"{url}/channels/c/events") as stream,
        ):
            lines = stream.iter_lines()
            while next(lines) != "event: ready":
                pass
            running.process.send_signal(signal.SIGINT)
            assert "event: bye" in list(lines)
        assert running.process.wait(60) == 0
        running.stop()
        assert "Traceback" not in "".join(running.output)
