"""One bad entry never stops a channel: it is skipped and counted; everything else is exact."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from tests.adapters.redis.poison import POISON, Write
from tokenwire import Event, Sink, Transcript, open_sink
from tokenwire.errors import GapError

_PATIENCE = 30.0
_GROUPS = sorted({name.partition(",")[0] for name in POISON})


class _Watcher:
    """Follows a channel on a thread, and folds what belongs to the responses of the test."""

    def __init__(self, sink: Sink, channel: str) -> None:
        self.transcript = Transcript()
        self.changed = threading.Condition()
        self.error: Exception | None = None
        self.watch = sink.watch(channel, rewind="all").open()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for event in self.watch:
                with self.changed:
                    self._take(event)
                    self.changed.notify_all()
        except Exception as error:
            self.error = error

    def _take(self, event: Event) -> None:
        if event.response_id is not None and event.response_id.startswith("good"):
            self.transcript.apply(event)

    def until(self, response_id: str, text: str) -> None:
        def there() -> bool:
            return self.error is not None or (
                response_id in self.transcript
                and self.transcript[response_id].ended
                and self.transcript[response_id].text == text
            )

        with self.changed:
            assert self.changed.wait_for(there, _PATIENCE), (response_id, self.watch.conflated)
        assert self.error is None


def _write(sink: Sink, channel: str, response_id: str) -> str:
    text = f"text of {response_id}, \U0001f642"
    with sink.respond(channel, response_id=response_id) as writer:
        for token in text.split():
            writer.write(token)
        writer.tool_result("call", response_id)
    assert writer.wait(_PATIENCE).status in ("delivered", "recovered")
    return text.replace(" ", "")


@pytest.mark.parametrize("granularity", ["response", "token"])
@pytest.mark.parametrize("group", _GROUPS)
def test_one_bad_entry_never_stops_a_channel(
    shared_redis: Any, group: str, granularity: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = redis.Redis.from_url(shared_redis.url)
    poison = {name: write for name, write in POISON.items() if name.partition(",")[0] == group}
    url = shared_redis.url
    with (
        open_sink(url, granularity=granularity) as agent,
        open_sink(url, granularity=granularity) as reading,
    ):
        for number, (name, write) in enumerate(poison.items()):
            channel = f"c{number}"
            try:
                _check(agent, reading, client, channel, write)
            except (AssertionError, GapError) as error:
                raise AssertionError(name) from error
        assert len([r for r in caplog.records if "skipped" in r.message]) <= 5 * len(poison)
    client.close()


def _check(agent: Sink, reading: Sink, client: Any, channel: str, write: Write) -> None:
    base = f"tokenwire:{{{channel}}}"
    texts = {"good-0": _write(agent, channel, "good-0")}
    _write(agent, channel, "bad")
    watcher = _Watcher(reading, channel)
    streaming = agent.respond(channel, response_id="good-1")
    streaming.write("before")
    assert agent.flush(_PATIENCE)
    cursor = streaming.receipt.cursor

    def meta() -> dict[str, Any]:
        names = ("head", "born")
        return dict(zip(names, [v.decode() for v in client.hmget(base, names)], strict=True))

    write(client, base, meta)
    for response_id in ("good-2", "good-3"):
        texts[response_id] = _write(agent, channel, response_id)
        watcher.until(response_id, texts[response_id])
    agent.input(channel, "n", 1, id="another")
    agent.send_event(channel, "n", 1)
    streaming.write("after")
    streaming.finish()
    assert streaming.wait(_PATIENCE).status in ("delivered", "recovered")
    texts["good-1"] = "beforeafter"
    watcher.until("good-1", "beforeafter")
    watcher.watch.close()
    _check_readers(agent, channel, cursor, texts)


def _check_readers(agent: Sink, channel: str, cursor: str | None, texts: dict[str, str]) -> None:
    items = {item.id: item for item in agent.history(channel, limit=100).items}
    assert {id_: items[id_].text for id_ in texts if id_ in items} == texts
    late = _Watcher(agent, channel)
    for response_id, text in texts.items():
        late.until(response_id, text)
    late.watch.close()
    resumed = agent.watch(channel, after=cursor)
    ended: set[str] = set()
    for event in resumed:
        if event.type in ("end", "snapshot"):
            ended.add(event.response_id or "")
        if {"good-1", "good-2", "good-3"} <= ended:
            break
    resumed.close()
