"""Every recording through the proxy: the client has every byte, and the response is right."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.adapters.proxy.support import running
from tests.support.recordings import Recording, parameters
from tests.support.replay import Replay, Reply
from tests.support.sdk import check, ended
from tokenwire import Sink

_REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"model": "m", "messages": [], "stream": True}),
    "responses": ("/responses", {"model": "m", "input": "x", "stream": True}),
    "anthropic": ("/v1/v1/messages", {"model": "m", "messages": [], "stream": True}),
}


@pytest.mark.parametrize("recording", parameters())
def test_recording(recording: Recording, sink: Sink) -> None:
    path, body = _REQUESTS[recording.api]
    if len(recording.expected.texts) > 1:
        body = {**body, "n": len(recording.expected.texts)}
    with (
        Replay(Reply(recording.body, cuts=recording.events)) as upstream,
        running({"up": upstream.base_url}, sink, channel="c") as origin,
    ):
        reply = httpx.post(f"{origin}/up{path}", json=body, timeout=60)
        assert reply.content == recording.body
        assert upstream.exchanges[0].path == f"/v1/{path.rpartition('/v1/')[2].lstrip('/')}"
    check(ended(sink, "c", 0), recording.expected)
