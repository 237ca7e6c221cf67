"""What operators need: health, metrics, spans, shutdown."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest
import uvicorn

import tokenwire
from tests.adapters.gateway.support import (
    PATIENCE,
    chatting,
    finished_spans,
    serving,
    watching,
)
from tests.support.needs import needs
from tokenwire.backend import HistoryPage
from tokenwire.errors import BackendUnavailable
from tokenwire_adapters.asgi import Gateway

pytestmark = pytest.mark.in_turn("way")


async def test_a_shutdown_leaves_nothing_behind(sink: tokenwire.Sink) -> None:
    """The loop may be closed right after it."""
    gateway = Gateway(sink)
    before = asyncio.all_tasks()
    server = uvicorn.Server(uvicorn.Config(gateway, log_level="warning", lifespan="off"))
    listening = socket.create_server(("127.0.0.1", 0))
    serve = asyncio.create_task(server.serve(sockets=[listening]))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with anyio.fail_after(PATIENCE):
        while not server.started:
            await anyio.sleep(0.01)
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            async with watching(client, "/channels/c/events") as stream:
                await stream.next()
                assert await gateway.shutdown(PATIENCE)
                ours = {task.get_name() for task in asyncio.all_tasks() - before}
                assert not [name for name in ours if name.startswith("tokenwire")]
                await stream.rest()
        server.should_exit = True
        await serve


@pytest.mark.parametrize("kind", ["url", "sink"])
async def test_what_was_served_may_be_served_again(sink: tokenwire.Sink, kind: str) -> None:
    gateway = Gateway(sink if kind == "sink" else "memory://again")
    for _ in range(3):
        with serving(gateway, lifespan="on") as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                assert (await client.get("/readyz")).status_code == 200
                async with watching(client, "/channels/c/events") as stream:
                    assert (await stream.next()).event == "ready"
        with serving(gateway, lifespan="off") as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                assert (await client.get("/channels/c/events")).status_code == 503
    async with gateway:
        with serving(gateway, lifespan="off") as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                assert (await client.get("/readyz")).status_code == 200
    assert not sink.closed


async def test_ready_only_while_the_backend_can_be_reached() -> None:
    class Shaky(tokenwire.MemoryBackend):
        down = False

        async def history(
            self, channel: str, *, limit: int, before: str | None = None
        ) -> HistoryPage:
            if self.down:
                raise BackendUnavailable("connection refused by secret-host:6379")
            return await super().history(channel, limit=limit, before=before)

    backend = Shaky()
    with tokenwire.open_sink(backend) as sink, serving(Gateway(sink)) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            assert (await client.get("/readyz")).json() == {"status": "ready"}
            backend.down = True
            with anyio.fail_after(PATIENCE):
                while (answer := await client.get("/readyz")).status_code == 200:
                    await anyio.sleep(0.05)  # an answer is good for a second
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert (await client.get("/healthz")).json()["status"] == "ok"
            answer = await client.get("/channels/c/responses")
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
            assert "secret-host" not in answer.text


async def test_metrics_tell_what_goes_on(client: httpx.AsyncClient, sink: tokenwire.Sink) -> None:
    needs("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families

    async with watching(client, "/channels/c/events") as stream:
        await stream.next()
        with sink.respond("c") as response:
            response.write("text")
        await stream.until("end")
        await client.get("/nowhere")
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["tokenwire_responses_total",] == 1
    assert found["tokenwire_tokens_total",] == 1
    assert found["tokenwire_watchers",] == 1
    assert found["tokenwire_gateway_connections", "sse"] == 1
    assert found["tokenwire_gateway_sent_events_total",] == 3
    assert found["tokenwire_gateway_sent_bytes_total",] > 200
    assert found["tokenwire_gateway_refused_total", "not_found"] == 1
    assert found["tokenwire_gateway_requests_total", "none", "404"] == 1
    for name in ("conflations_total", "publish_retries_total", "abandoned_total"):
        assert (f"tokenwire_{name}",) in found
    assert ("tokenwire_publish_latency_seconds",) in found
    assert ("tokenwire_gateway_lag_seconds",) in found


@pytest.mark.parametrize(("for_", "status"), [("local", 403), ("everyone", 200), ("nobody", 404)])
async def test_metrics_are_not_for_everybody(sink: tokenwire.Sink, for_: str, status: int) -> None:
    gateway = Gateway(sink, authorize=lambda *_: True, metrics_for=for_)  # type: ignore[arg-type]
    with serving(gateway) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            answer = await client.get("/metrics", headers={"x-forwarded-for": "10.0.0.1"})
    assert answer.status_code == status


async def test_the_browser_client_is_served_where_it_is_shipped(
    client: httpx.AsyncClient,
) -> None:
    from importlib import resources

    script, types = "text/javascript", "typescript"
    for name, kind in (
        ("tokenwire.js", script),
        ("tokenwire.d.ts", types),
        ("tokenwire-tabs.js", script),
        ("tokenwire-tab-lines.js", script),
        ("ai-sdk.js", script),
        ("ai-sdk-message.js", script),
        ("ai-sdk.d.ts", types),
    ):
        file = resources.files("tokenwire_adapters") / "_static" / name
        answer = await client.get(f"/{name}")
        if not file.is_file():
            assert answer.status_code == 404
            continue
        assert answer.content == file.read_bytes()
        assert kind in answer.headers["content-type"]
        assert answer.headers["access-control-allow-origin"] == "*"
        tag = answer.headers["etag"]
        again = await client.get(f"/{name}", headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
        plain = {"accept-encoding": "gzip;q=0, br"}
        whole = await client.get(f"/{name}", headers=plain)
        assert "content-encoding" not in whole.headers
        assert whole.content == answer.content
        packed = await client.get(f"/{name}", headers={"accept-encoding": "br, gzip;q=0.5"})
        assert packed.headers["content-encoding"] == "gzip"
        assert "accept-encoding" in packed.headers["vary"]
        assert packed.content == answer.content
        assert int(packed.headers["content-length"]) < len(answer.content)
        assert packed.headers["etag"] != whole.headers["etag"]


async def test_the_api_is_described(client: httpx.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    assert description["openapi"] == "3.1.0"
    assert "/channels/{channel}/events" in description["paths"]
    assert "vercel" in json.dumps(description)


async def test_the_description_has_every_field_of_a_response(
    client: httpx.AsyncClient, sink: tokenwire.Sink
) -> None:
    response = sink.respond("c", response_id="r1", run="run-1", metadata={"user": "u1"})
    response.write("text")
    response.tool_call("search", call_id="call-1")
    response.tool_result("call-1", {"found": 1})
    response.finish(finish_reason="stop", usage={"output_tokens": 1})
    sink.respond("c", response_id="r2").fail("broken")
    items = (await client.get("/channels/c/responses")).json()["items"]
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    described = schemas["Response"]["properties"]
    assert {"usage", "error", "finish_reason", "started_at", "ended_at"} <= described.keys()
    assert {"usage", "error", "finish_reason", "started_at", "ended_at"} <= {
        name for item in items for name in item
    }
    for item in items:
        assert item.keys() <= described.keys()
        assert set(schemas["Response"]["required"]) <= item.keys()
        for part in item["tool_calls"]:
            assert part.keys() <= schemas["Part"]["properties"].keys()


async def test_requests_leave_spans(client: httpx.AsyncClient, sink: tokenwire.Sink) -> None:
    finished = finished_spans()
    await client.get("/channels/c/responses")
    # The span ends when the server is done, which may be after the client has its answer.
    span = await anyio.to_thread.run_sync(lambda: finished.get(timeout=60))
    assert span.name == "tokenwire.gateway.request"
    assert dict(span.attributes)["http.route"] == "history"
    assert dict(span.attributes)["http.response.status_code"] == 200


APP = """
import asyncio, contextlib, functools, signal, sys, threading, time
import uvicorn
from fastapi import FastAPI
from tokenwire_adapters.asgi import Gateway

gateway = Gateway("memory://")
app = FastAPI() if sys.argv[1] == "mounted" else gateway
if sys.argv[1] == "mounted":
    app.mount("/", gateway)
config = uvicorn.Config(app, port=0, log_level="info", timeout_graceful_shutdown=30)
if sys.argv[2] == "thread":  # and the app's own signal handlers
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    terminated = []  # no Event: its lock may be held by this thread when the handler interrupts it
    signal.signal(signal.SIGTERM, lambda *_: terminated.append(True))
    while not terminated:
        time.sleep(0.05)
    server.should_exit = True
    thread.join()
elif sys.argv[2] == "loop":
    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):
            yield

    async def main():
        server = Server(config)
        stop = functools.partial(setattr, server, "should_exit", True)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        await server.serve()

    asyncio.run(main())
else:
    uvicorn.Server(config).run()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("runs", ["main", "thread", "loop"])
@pytest.mark.parametrize("how", ["mounted", "alone"])
async def test_a_server_told_to_stop_lets_its_clients_know(
    how: str, runs: str, tmp_path: Path
) -> None:
    """uvicorn alone would wait for ever for streams that never end."""
    process = await anyio.open_process(
        [sys.executable, "-c", APP, how, runs], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        log = ""
        with anyio.fail_after(PATIENCE):
            while "running on http://127.0.0.1:" not in log:
                log += (await process.stderr.receive()).decode()
            port = int(log.partition("running on http://127.0.0.1:")[2].split()[0])
            url = f"http://127.0.0.1:{port}"
            async with (
                httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client,
                watching(client, "/channels/c/events") as stream,
                chatting(f"ws://127.0.0.1:{port}") as chat,
            ):
                await stream.next()
                await chat.ask("subscribe")
                process.send_signal(signal.SIGTERM)
                assert (await stream.rest())[-1].event == "bye"
                assert (await chat.closed())[0] == 1012
            async for part in process.stderr:
                log += part.decode()
            await process.wait()
        assert "Finished server process" in log
        assert "Traceback" not in log
        assert "timeout graceful shutdown exceeded" not in log
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


def test_the_public_names_are_these() -> None:
    import tokenwire_adapters.asgi

    assert set(tokenwire_adapters.asgi.__all__) == {
        "AccessDenied",
        "Authorize",
        "EventsResponse",
        "Gateway",
        "Grant",
        "Limits",
        "MaskTokens",
        "Problem",
        "TokenwireMiddleware",
        "Tokens",
        "mint_token",
    }
    for name in tokenwire_adapters.asgi.__all__:
        assert hasattr(tokenwire_adapters.asgi, name)


@pytest.mark.parametrize("missing", ["joserfc", "starlette"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import tokenwire_adapters.asgi"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"the gateway needs {missing}" in done.stderr
    assert 'pip install "tokenwire[gateway]"' in done.stderr
