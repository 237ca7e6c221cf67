"""Another log under the same name, after data was lost: nobody misses what is in it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis

from tokenwire import Transcript, open_sink

_PATIENCE = 30.0


@pytest.mark.parametrize("granularity", ["response", "token"])
@pytest.mark.parametrize("ahead", ["not", "head", "born"])
def test_after_a_flush_watchers_see_all_of_the_next_log(
    shared_redis: Any, granularity: Any, ahead: str
) -> None:
    client = redis.Redis.from_url(shared_redis.url)
    with (
        open_sink(shared_redis.url, granularity=granularity) as agent,
        open_sink(shared_redis.url, granularity=granularity) as reading,
    ):
        if ahead != "not":  # the server's clock was an hour ahead, and then set right
            future = f"{int(time.time() * 1000) + 3_600_000}-0"
            fields = {"head": f"{future}-0", "born": future}
            if ahead == "head":
                with agent.respond("c", response_id="r0") as writer:
                    writer.write("zero")
                assert agent.flush(_PATIENCE)
                del fields["born"]
            client.hset("tokenwire:{c}", mapping=fields)
        with agent.respond("c", response_id="r1") as writer:
            writer.write("one")
        cursor = writer.wait(_PATIENCE).cursor
        assert cursor is not None
        live, seen = reading.watch("c").open(), Transcript()
        changed = threading.Condition()

        def read() -> None:
            for event in live:
                with changed:
                    seen.apply(event)
                    changed.notify_all()

        threading.Thread(target=read, daemon=True).start()
        with agent.respond("c", response_id="r2") as writer:
            writer.write("two")
        with changed:
            assert changed.wait_for(lambda: "r2" in seen and seen["r2"].ended, _PATIENCE)
        client.flushall()
        for name in ("r3", "r4"):
            with agent.respond("c", response_id=name) as writer:
                writer.write(name)
            with changed:
                done = changed.wait_for(lambda n=name: n in seen and seen[n].ended, _PATIENCE)
            assert done, (name, reading.stats())
            assert seen[name].text == name
        live.close()
        for after in (cursor, f"~{cursor}"):  # `~`: stopped between snapshots
            resumed, again = agent.watch("c", after=after), Transcript()
            for event in resumed:
                again.apply(event)
                if len(again) == 2 and all(response.ended for response in again):
                    break
            assert {response.id: response.text for response in again} == {"r3": "r3", "r4": "r4"}
            assert resumed.reset
            resumed.close()
    client.close()


def test_nothing_is_read_from_a_log_that_is_gone(shared_redis: Any) -> None:
    client = redis.Redis.from_url(shared_redis.url)
    with open_sink(shared_redis.url) as agent:
        with agent.respond("c", response_id="r1") as writer:
            writer.write("one")
        cursor = writer.wait(_PATIENCE).cursor
        live = agent.watch("c").open()
        client.flushall()
        again = agent.watch("c", rewind="all").open()  # ends at once where it loops for ever
        with agent.respond("c", response_id="r2") as writer:
            writer.write("two")
        for watch in (live, again, agent.watch("c", after=cursor)):
            seen = Transcript()
            for event in watch:
                seen.apply(event)
                if "r2" in seen and seen["r2"].ended:
                    break
            watch.close()
    client.close()
