"""Behind Debian's nginx, set up as docs/deploy.md says."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import tokenwire
from tests.adapters.gateway.support import PATIENCE, SECRET, chatting, native, serving, watching
from tests.support.ports import ReservedPort, wait_until_served
from tokenwire.response import Transcript
from tokenwire_adapters.asgi import Gateway, Limits, Tokens, mint_token

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
DEPLOY = Path(__file__).parents[3] / "docs" / "deploy.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None and not os.environ.get("CI"), reason="needs nginx"),
]

AROUND = """
daemon off;
pid {here}/nginx.pid;
error_log {here}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log {here}/access.log;
    client_body_temp_path {here}/body;
    proxy_temp_path {here}/proxy;
    fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi;
    scgi_temp_path {here}/scgi;
    # What a site is likely to have, and must not harm streams.
    gzip on;
    gzip_types *;
    gzip_proxied any;
    {config}
}}
"""


def config_of_docs(port: int, upstream: int) -> str:
    """The configuration that docs/deploy.md shows, on ports of the test's own."""
    blocks = re.findall(r"```nginx\n(.*?)```", DEPLOY.read_text(), re.DOTALL)
    config = blocks[0]
    assert "listen 80;" in config
    assert "127.0.0.1:8000" in config
    return config.replace("listen 80;", f"listen 127.0.0.1:{port};").replace(
        "127.0.0.1:8000", f"127.0.0.1:{upstream}"
    )


@contextlib.contextmanager
def nginx(here: Path, upstream: int) -> Iterator[int]:
    assert NGINX is not None
    reserved = ReservedPort()
    port = reserved.number
    path = here / "nginx.conf"
    path.write_text(AROUND.format(here=here, config=config_of_docs(port, upstream)))
    command = [NGINX, "-p", str(here), "-e", str(here / "error.log"), "-c", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        wait_until_served(port, process, PATIENCE)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
        reserved.release()


def mounted(gateway: Gateway) -> Starlette:
    return Starlette(routes=[Mount("/tokenwire", gateway)])


async def test_streams_and_sockets_pass_at_once_and_exact(
    sink: tokenwire.Sink, tmp_path: Path
) -> None:
    token = mint_token(SECRET, capability={"*": ["*"]})
    headers = {"authorization": f"Bearer {token}"}
    gateway = Gateway(sink, tokens=Tokens(SECRET), limits=Limits(keep_alive=0.5))
    with serving(mounted(gateway)) as server, nginx(tmp_path, server.port) as port:
        base = f"http://127.0.0.1:{port}/tokenwire"
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=PATIENCE) as client:
            async with (
                watching(
                    client, "/channels/a%2Fb%25/events", headers={"accept-encoding": "gzip"}
                ) as stream,
                chatting(
                    f"ws://127.0.0.1:{port}/tokenwire", "a%2Fb%25", additional_headers=headers
                ) as chat,
            ):
                assert (await stream.next()).event == "ready"
                await chat.ask("subscribe")
                response = sink.respond("a/b%", response_id="r1")
                seen = []
                for n in range(20):  # each arrives before the next is written: nothing buffers
                    response.write(f"{n} ")
                    seen += await stream.until("delta")
                    while "".join(one.text for one in chat.transcript) != response_text(n):
                        await chat.receive()
                outcome = await client.post("/channels/a%2Fb%25/responses/r1/cancel")
                assert outcome.json()["state"] == "cancelled"
                seen += await stream.until("end")
            assert Transcript(native(seen))["r1"].text == response_text(19)
            # The same client resumes; nginx may have cut the line for reasons of its own.
            after = {"last-event-id": seen[0].id}
            async with watching(client, "/channels/a%2Fb%25/events", headers=after) as stream:
                assert native(await stream.until("end"))[-1].state == "cancelled"  # type: ignore[union-attr]


def response_text(n: int) -> str:
    return "".join(f"{i} " for i in range(n + 1))


async def test_a_proxy_is_not_this_machine(sink: tokenwire.Sink, tmp_path: Path) -> None:
    """nginx connects from loopback, but speaks for others."""
    with serving(mounted(Gateway(sink))) as server, nginx(tmp_path, server.port) as port:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/tokenwire", timeout=PATIENCE
        ) as client:
            for path in ("/channels/c/events", "/channels/c/responses", "/metrics"):
                answer = await client.get(path)
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_a_client_that_leaves_nginx_is_let_go(sink: tokenwire.Sink, tmp_path: Path) -> None:
    gateway = Gateway(sink, authorize=lambda *_: True, limits=Limits(keep_alive=0.2))
    with serving(mounted(gateway)) as server, nginx(tmp_path, server.port) as port:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}/tokenwire", timeout=PATIENCE
        ) as client:
            async with watching(client, "/channels/c/events") as stream:
                await stream.next()
                assert gateway.connections == 1
            with anyio.fail_after(PATIENCE):
                while gateway.connections:
                    await anyio.sleep(0.02)
