"""The `eventsource` package of npm, unmodified, on a gateway."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import tokenwire
from tests.adapters.gateway.support import Server
from tests.support.needs import needs
from tests.support.nodejs import node_with

needs("redis")  # the proxy lives with the tests of Redis

_JS = Path(__file__).parent / "js"
_TOKENS = [" a", "b ", "\n", "茶", "🙂", "e\u0301", '"', " <b>", "data: x", "\r\n"] * 6


@pytest.mark.slow
def test_it_resumes_exactly_over_lost_connections(sink: tokenwire.Sink, server: Server) -> None:
    from tests.redis_support import FaultyProxy

    node = node_with(_JS / "package.json")
    port = int(server.url.rsplit(":", 1)[1])
    with FaultyProxy(("127.0.0.1", port)) as proxy:
        response = sink.respond("chat", response_id="r")
        url = f"http://127.0.0.1:{proxy.port}/channels/chat/events?rewind=all"
        process = subprocess.Popen(
            [node.executable, str(node.script(_JS / "eventsource.mjs")), url],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None

        def until(field: str) -> dict[str, Any]:
            assert process.stdout is not None
            for line in process.stdout:
                reported: dict[str, Any] = json.loads(line)
                assert "wrong" not in reported, reported
                if field in reported:
                    return reported
            raise AssertionError("the client ended")

        until("opened")
        for number, token in enumerate(_TOKENS):
            response.write(token)
            if number in (10, 30):
                until("length")
                assert proxy.cut() > 0
                response.write(" while it is away")
                until("opened")
        response.finish()
        reported = until("text")
        process.stdout.close()
        assert process.wait(60) == 0
    kept = sink.history("chat").items[0]
    assert reported["text"] == kept.text
    assert reported["state"] == "complete"
    assert len(set(reported["ids"])) == len(reported["ids"])  # nothing came twice
