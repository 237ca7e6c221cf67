"""Pages with Ably's own JavaScript client, as documented, show our streams exactly."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.ably.places import sink
from tests.support.nodejs import node_with
from tokenwire import ResponseWriter
from tokenwire.events import InputEvent
from tokenwire.testing import read_until
from tokenwire_adapters.testing.ably import ServerThread, Settings

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "js"


class Page:
    """A Node process that shows what a page would."""

    def __init__(self, thread: ServerThread, script: str = "pages.cjs", major: int = 20) -> None:
        tools = node_with(FOLDER / "package.json", major=major)
        self._process = subprocess.Popen(
            [tools.executable, str(FOLDER / script)],
            env=tools.environment(
                ABLY_PORT=thread.server.port, ABLY_CONTROL=thread.server.control_port
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, *step: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(step) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["done"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def thread() -> Iterator[ServerThread]:
    with ServerThread(settings=Settings(inbound_rate=None)) as created:
        yield created


@pytest.fixture
def page(thread: ServerThread) -> Iterator[Page]:
    created = Page(thread)
    yield created
    created.close()


TEXTS = {f"r{n}": [f" wörd{n}.{i} 🙂" for i in range(60)] for n in range(3)}


@pytest.mark.parametrize("fault", ["", "nack_every", "disconnect_every"])
def test_a_message_per_response(thread: ServerThread, page: Page, fault: str) -> None:
    page.do("open", "responses", "live")
    with sink(thread, rate=0, retry=0.05) as agent:
        if fault:
            thread.fault(fault, 10 if fault == "nack_every" else 0.3)
        writers = {name: agent.respond("ai:chat", response_id=name) for name in TEXTS}
        for step in range(60):
            for name, tokens in TEXTS.items():
                if step == 0:
                    writers[name].write("Let me think.", kind="reasoning")
                writers[name].write(tokens[step])
            if step == 30:
                page.do("open", "responses", "rewind")  # a reload
                page.do("open", "responses", "history")
        thread.fault("disconnect_every", 0)
        for writer in writers.values():
            writer.finish("stop")
        for writer in writers.values():
            assert writer.wait(60).status in ("delivered", "recovered")
    expected = {name: "".join(tokens) for name, tokens in TEXTS.items()}
    assert page.do("texts", "3") == dict.fromkeys(("live", "rewind", "history"), expected)


def test_a_long_response_goes_on_in_further_messages(thread: ServerThread, page: Page) -> None:
    page.do("open", "responses", "live")
    with sink(thread, rate=0) as agent:
        with agent.respond("ai:chat", response_id="long") as response:
            for _ in range(100):
                response.write("0123456789" * 150)
        assert response.wait(60).status == "delivered"
    page.do("open", "responses", "rewind")
    text = "0123456789" * 15000
    assert page.do("texts", "1") == {"live": {"long": text}, "rewind": {"long": text}}


@pytest.mark.parametrize("markers", [True, False], ids=["start-stop", "continuous"])
@pytest.mark.parametrize("fault", ["", "refused"])
def test_a_message_per_token(thread: ServerThread, page: Page, fault: str, markers: bool) -> None:
    pattern = "tokens" if markers else "stream"
    page.do("open", pattern, "live")
    tokens = [f" tök{i}" for i in range(60)]
    with sink(thread, rate=0, granularity="token", markers=markers) as agent:
        with agent.respond("ai:chat", response_id="r") as response:
            for step, token in enumerate(tokens):
                if fault and step in (0, 20, 40):
                    assert agent.flush(30)
                    refuse_one(thread, response, token)
                    continue
                response.write(token)
                if step % 4 == 0:
                    assert agent.flush(30)
                if step == 30:
                    page.do("open", pattern, "rewind")  # a reload
        receipt = response.wait(60)
        assert receipt.status == ("recovered" if fault else "delivered")
        kept = agent.history("ai:chat").items[0]
    assert kept.text == "".join(tokens)
    whole = {"r": "".join(tokens)}
    assert page.do("texts", "1") == {"live": whole, "rewind": whole}
    published = [name for name, _ in messages_of(thread)]
    assert ("start" in published, "stop" in published) == (markers, markers)
    assert published.count("response-complete") == (3 if fault else 0)
    if not fault:
        # Each token is a message, whatever the page makes of them.
        assert [data for name, data in messages_of(thread) if name == "token" and data] == tokens
        if not markers:
            assert page.do("all", "live") == "".join(tokens)


def refuse_one(thread: ServerThread, response: ResponseWriter, token: str) -> None:
    """Have Ably refuse a token, the second half of which is under way already."""
    server = thread.server
    thread.fault("hold_acks")
    thread.fault("nack_next", 1)
    response.write(token[:2])
    eventually(lambda: not server.faults.refusals_left)
    received = server.stats["messages_in"]
    response.write(token[2:])
    eventually(lambda: server.stats["messages_in"] > received)
    thread.fault("hold_acks", False)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the server does, for which there is no event to await."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


def messages_of(thread: ServerThread) -> list[tuple[str | None, Any]]:
    """Names and data of all messages in the channel, in its order."""
    kept = thread.call(lambda: list(thread.server.channels["ai:chat"].history()))
    return [(message.latest.name, message.latest.data) for message in reversed(kept)]


def test_a_page_cancels_and_sends_inputs(thread: ServerThread, page: Page) -> None:
    with sink(thread) as agent:
        response = agent.respond("ai:chat", response_id="r")
        response.write("on and on")
        assert agent.flush(30)
        watch = agent.watch("ai:chat").open()
        page.do("publish", "input", json.dumps({"data": {"text": "stop it"}}))
        page.do(
            "publish",
            "cancel",
            json.dumps({"data": {"reason": "enough"}, "extras": {"headers": {"responseId": "r"}}}),
        )
        events = read_until(watch, lambda event: event.type == "end")
        watch.close()
        inputs = [event for event in events if isinstance(event, InputEvent)]
        assert [(e.name, e.data, e.sender) for e in inputs] == [
            ("message", {"text": "stop it"}, "visitor")
        ]
        assert any(event.type == "cancel" for event in events)
        assert response.cancelled
        assert response.cancel_reason == "enough"
        assert agent.history("ai:chat").items[0].state == "cancelled"
