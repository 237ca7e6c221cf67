"""The operator's compose file: checked, and its commands run as processes behind its nginx."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.redis_support import RedisServer
from tests.redis_support.fixtures import *  # noqa: F403
from tests.support.needs import needs
from tests.support.ports import ReservedPort

needs("uvicorn")
needs("yaml")
needs("openai")

import yaml

import tokenwire

FOLDER = Path(__file__).parents[3] / "examples" / "operator"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
GATEWAYS = [name for name in SERVICES if name.startswith("gateway")]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PATIENCE = 60

# What of the Compose specification the file uses; another name would be a misspelt one.
SERVICE_KEYS = {
    *("image", "build", "command", "ports", "volumes", "secrets", "environment"),
    *("depends_on", "healthcheck", "restart", "stop_grace_period"),
}


def test_the_compose_file_is_consistent() -> None:
    assert set(COMPOSE) <= {"name", "services", "volumes", "secrets", "x-gateway"}
    assert len(GATEWAYS) == 2
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE_KEYS, name
        assert ("image" in service) != ("build" in service), name
        assert set(service.get("depends_on", ())) <= set(SERVICES), name
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"]), name
        for volume in service.get("volumes", ()):
            source, target = volume.split(":")[:2]
            assert target.startswith("/"), name
            if source.startswith("."):
                assert (FOLDER / source).is_file(), source
            else:
                assert source in COMPOSE["volumes"], source
        for word in service.get("command", ()):
            assert isinstance(word, str), f"{name}: quote {word!r}"
    for name in GATEWAYS:
        assert f"server {name}:8000;" in (FOLDER / "nginx.conf").read_text("utf-8")
    assert (FOLDER / SERVICES[GATEWAYS[0]]["build"] / "Dockerfile").is_file()


def test_redis_takes_its_options() -> None:
    command = SERVICES["redis"]["command"]
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server")
    options = [word.removeprefix("--") for word in command[1:]]
    settings = dict(zip(options[::2], options[1::2], strict=True))
    with RedisServer(config=settings) as server:
        for name, value in settings.items():
            assert server.admin.config_get(name)[name] == value.replace("1gb", f"{2**30}")


@contextlib.contextmanager
def gateway(port: int, key: Path, redis: str) -> Iterator[subprocess.Popen[str]]:
    command = [
        word.replace("redis://redis:6379", redis)
        .replace("0.0.0.0", "127.0.0.1")
        .replace("--port=8000", f"--port={port}")
        .replace("/run/secrets/key", str(key))
        for word in SERVICES["gateway-1"]["command"]
    ]
    assert command[0] == "tokenwire"
    process = subprocess.Popen(
        [sys.executable, "-m", "tokenwire_adapters.cli", *command[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if "Uvicorn running" in line or "http://127.0.0.1" in line:
                break
        else:
            raise AssertionError(output)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


@contextlib.contextmanager
def nginx(folder: Path, port: int, gateways: list[int]) -> Iterator[str]:
    assert NGINX is not None
    config = (FOLDER / "nginx.conf").read_text("utf-8")
    config = config.replace("listen 80;", f"listen 127.0.0.1:{port};")
    for name, number in zip(GATEWAYS, gateways, strict=True):
        config = config.replace(f"{name}:8000", f"127.0.0.1:{number}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    config = config.replace("access_log off;", f"access_log off;\n{paths}")
    (folder / "nginx.conf").write_text(f"daemon off;\npid {folder}/pid;\n{config}", "utf-8")
    command = [
        NGINX,
        "-p",
        str(folder),
        "-e",
        str(folder / "log"),
        "-c",
        str(folder / "nginx.conf"),
    ]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    process = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}"
        transport = httpx.HTTPTransport(retries=20)
        with httpx.Client(transport=transport, timeout=PATIENCE) as client:
            assert client.get(f"{url}/readyz").status_code == 200
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.slow
@pytest.mark.redis
@pytest.mark.skipif(NGINX is None and not os.environ.get("CI"), reason="needs nginx")
def test_a_gateway_is_stopped_while_somebody_watches(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("a secret of more than thirty-two bytes, for this test\n")
    ports = [ReservedPort() for _ in range(3)]
    first, second, front = (port.number for port in ports)
    mint = [
        *("token", "--key-file", str(key), "--subject", "u1", "--lifetime", "1h"),
        *("--allow", "chat-*=subscribe,history,cancel,input"),
    ]
    program = [sys.executable, "-m", "tokenwire_adapters.cli"]
    token = subprocess.run(
        [*program, *mint], check=True, capture_output=True, text=True
    ).stdout.strip()
    text = [f"{number} 東京 " for number in range(200)]
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(port)
        running = [
            stack.enter_context(gateway(port, key, shared_redis.url)) for port in (first, second)
        ]
        url = stack.enter_context(nginx(tmp_path, front, [first, second]))
        assert httpx.get(f"{url}/channels/chat-7/responses", timeout=PATIENCE).status_code == 401
        sink = stack.enter_context(tokenwire.open_sink(shared_redis.url))
        response = sink.respond("chat-7")
        response.write(text[0])
        watching = subprocess.Popen(
            [*program, "watch", url, "chat-7", "--once", "--plain"],
            env={**os.environ, "TOKENWIRE_TOKEN": token, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        stack.callback(watching.kill)
        assert watching.stdout is not None
        shown = ""
        while text[0] not in shown:
            shown += watching.stdout.read(1)
        for piece in text[1:100]:
            response.write(piece)
        running[0].terminate()
        running[0].wait(PATIENCE)
        for piece in text[100:]:
            response.write(piece)
        response.finish()
        shown += watching.communicate(timeout=PATIENCE)[0]
        assert "".join(text).strip() in shown
        assert watching.returncode == 0
