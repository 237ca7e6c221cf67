"""Administration on Redis beyond the contract: keys, TTLs, data of other releases."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import redis

from tests.redis_support import eventually
from tokenwire import Deleted, Retention, Sink, open_sink
from tokenwire.errors import BackendMisconfigured
from tokenwire.events import InputEvent, decode_msgpack_batch
from tokenwire_adapters.redis import RedisBackend

pytestmark = pytest.mark.redis

RELEASES = Path(__file__).parent / "stored"


@pytest.fixture
def prefix(request):
    return f"test-{abs(hash(request.node.nodeid))}"


@pytest.fixture
def sink(shared_redis, prefix):
    with open_sink(shared_redis.url, prefix=prefix, strict=True) as sink:
        yield sink


@pytest.fixture
def client(shared_redis):
    with redis.Redis.from_url(shared_redis.url) as client:
        yield client


@pytest.fixture
def keys(client, prefix):
    """The keys of this test, without the prefix."""
    return lambda: {key.decode().removeprefix(f"{prefix}:") for key in client.keys(f"{prefix}:*")}


def write(sink, channel="chat-42", response_id="r1", text="Hello", **options):
    with sink.respond(channel, response_id=response_id, **options) as response:
        response.write(text)
    response.wait(10)


def test_nothing_is_left_of_a_channel(sink, keys):
    write(sink)
    sink.cancel("chat-42", "not-started", reason="secret")
    sink.input("chat-42", "question", "secret", id="i1")
    sink.set_retention("chat-42", Retention(responses=5))
    assert keys()
    assert sink.delete_channel("chat-42") == Deleted(responses=1, events=2)
    assert keys() == set()


def content_of(client, key):
    """All that a key holds, as bytes."""
    read = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"stream": client.xrange,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    return repr(read[client.type(key)](key)).encode()


def test_nothing_is_left_of_a_response(sink, client, prefix, keys):
    write(sink, response_id="kept", text="kept")
    write(sink, response_id="secret", text="secret text")
    sink.tool_result("chat-42", "call", "secret result", response_id="secret")
    sink.flush()
    assert sink.delete_response("chat-42", "secret")
    for key in keys():
        assert "secret" not in key
        value = content_of(client, f"{prefix}:{key}")
        if not key.endswith((":keys", ":keys:old")):  # names of what was sent, not its content
            assert b"secret" not in value, key
    assert int(client.hget(f"{prefix}:{{chat-42}}", "bytes")) == client.strlen(
        f"{prefix}:{{chat-42}}:t:kept"
    )


def test_many_responses_are_deleted(sink):
    for n in range(600):
        sink.respond("chat-42", response_id=f"r{n}", metadata={"user": "u"}).finish()
        sink.send_event("chat-42", "note", n, response_id=f"r{n}")
    sink.flush(30)
    assert sink.delete_user("u") == Deleted(responses=600, events=600)


def test_a_retention_outlives_the_data_and_sets_the_times_to_live(sink, client, prefix):
    base = f"{prefix}:{{chat-42}}"
    write(sink)
    assert client.ttl(base) > 24 * 3600
    sink.set_retention("chat-42", Retention(age=60.0))
    write(sink, response_id="r0")
    assert client.ttl(base) == -1
    assert client.ttl(f"{base}:t:r1") <= 69
    assert client.ttl(f"{base}:log") <= 3700
    sink.set_retention("chat-42", Retention(age=None))
    write(sink, response_id="r2")
    assert {client.ttl(f"{base}:{key}") for key in ("t:r1", "t:r2", "r:r2", "log")} == {-1}
    assert sink.retention("chat-42").age is None
    sink.set_retention("chat-42", None)
    assert client.ttl(base) > 0
    assert client.ttl(f"{base}:t:r2") > 0


def test_a_retention_may_come_before_the_first_write(sink, client, prefix):
    sink.set_retention("chat-42", Retention(age=60.0, responses=1))
    write(sink, response_id="r1")
    write(sink, response_id="r2")
    assert client.ttl(f"{prefix}:{{chat-42}}") == -1
    assert [one.id for one in sink.history("chat-42").items] == ["r2"]


def test_an_age_of_a_channel_hides_what_is_older(sink):
    write(sink)
    sink.set_retention("chat-42", Retention(age=0.001))
    write(sink, "other")
    # All of it may be done within that millisecond.
    eventually(lambda: not sink.history("chat-42").items, "what is older to be hidden")
    assert sink.history("other").items


def test_a_damaged_retention_is_passed_over(sink, client, prefix):
    base = f"{prefix}:{{chat-42}}"
    for damaged in (b"\xc1", msgspec.msgpack.encode(["a"] * 5), msgspec.msgpack.encode([1])):
        client.hset(base, "retention", damaged)
        write(sink, response_id=damaged.hex())
        assert sink.retention("chat-42") == Retention()
        assert sink.history("chat-42").items[0].text == "Hello"


def test_a_list_shows_channels_only(sink, client, prefix):
    write(sink, "chat-42", response_id="r}")  # its key ends as that of a channel does
    sink.set_retention("empty", Retention())
    client.hset(f"{prefix}:{{a{{b}}", "head", "1-0-0")
    assert [channel.name for channel in sink.list_channels()] == ["chat-42"]


# -- data of other releases


def load(client, path, prefix):
    """Store what another release stored, as `stored/README.md` says it was read."""
    dump = json.loads(path.read_text("utf-8"))
    raw = lambda text: text.encode("latin-1")  # noqa: E731
    for key, kind, value in dump["keys"]:
        key = raw(key).replace(b"tokenwire:", f"{prefix}:".encode(), 1)
        if kind == "string":
            client.set(key, raw(value))
        elif kind == "hash":
            client.hset(key, mapping={raw(name): raw(field) for name, field in value})
        elif kind == "zset":
            client.zadd(key, {raw(name): score for name, score in value})
        else:
            for entry_id, fields in value:
                client.xadd(key, {raw(name): raw(field) for name, field in fields}, id=entry_id)
    return dump


@pytest.fixture(params=sorted(RELEASES.glob("*.json")), ids=lambda path: path.stem)
def earlier(request, shared_redis, client, prefix):
    """A sink over data that an earlier release wrote, and a cursor that it gave out."""
    dump = load(client, request.param, prefix)
    granularity = "token" if "token" in request.param.stem else "response"
    backend = RedisBackend(shared_redis.url, prefix=prefix, age=None, granularity=granularity)
    with Sink(backend, strict=True) as sink:
        yield sink, dump["cursors"]


def test_data_of_an_earlier_release_is_read(earlier):
    sink, _ = earlier
    second, first = sink.history("chat-42").items
    assert (first.id, first.state, first.run) == ("r1", "complete", "run-1")
    assert (first.text, first.reasoning) == ("Héllo wörld", "Let me think. ")
    assert first.metadata == {"user": "u1"}
    assert [(part.name, part.arguments) for part in first.tool_calls] == [("search", '{"q":"ö"}')]
    assert [result.output for result in first.tool_results] == [{"hits": 1}]
    assert (first.finish_reason, first.usage) == ("stop", {"output_tokens": 3})
    assert (second.id, second.state, second.text) == ("r2", "failed", "half")
    assert sink.stats().unreadable == 0


def test_a_cursor_of_an_earlier_release_goes_on(earlier):
    sink, cursors = earlier
    write(sink, response_id="new", text="now")
    for cursor in cursors:
        with sink.watch("chat-42", after=cursor) as watch:
            for event in watch:
                if event.response_id == "new" and event.type == "end":
                    break
        assert not watch.reset


def test_data_of_an_earlier_release_is_administered(earlier):
    sink, _ = earlier
    (channel,) = sink.list_channels()
    assert (channel.name, channel.responses, channel.streaming) == ("chat-42", 2, 0)
    lines = list(sink.export_channels())
    assert sink.delete_user("u1") == Deleted(responses=1, events=2)
    assert [one.id for one in sink.history("chat-42").items] == ["r2"]
    assert sink.import_channels(lines).responses == 1
    with sink.watch("chat-42", rewind="all") as watch:
        inputs = (event for event in watch if isinstance(event, InputEvent))
        assert next(inputs).data == "And then?"


def test_data_of_a_later_release_in_this_format_is_read(sink, client, prefix):
    """A later release may add fields and types; what this one does not know is passed over."""
    write(sink, response_id="r1")
    base = f"{prefix}:{{chat-42}}"
    client.hset(base, "of-the-future", "1")
    client.hset(f"{base}:r:r1", "of-the-future", "1")
    head = client.hget(base, "head").decode()
    ms = int(head.partition("-")[0])
    event = {"type": "delete", "response_id": "r0", "v": 2, "by": "u1"}
    payload = msgspec.msgpack.encode([event])
    assert decode_msgpack_batch(payload)
    client.xadd(f"{base}:log", {"e": payload}, id=f"{ms}-7")
    client.xadd(f"{base}:singles", {"e": payload}, id=f"{ms}-7")
    client.hset(base, "head", f"{ms}-7-0")
    write(sink, response_id="r2")
    with sink.watch("chat-42", rewind="all") as watch:
        types = []
        for seen in watch:
            types.append(seen.type)
            if seen.response_id == "r2":
                break
    assert types == ["snapshot", "delete", "snapshot"]
    assert [one.text for one in sink.history("chat-42").items] == ["Hello", "Hello"]


def test_a_later_format_is_refused_by_name(shared_redis, client, prefix):
    with open_sink(shared_redis.url, prefix=prefix) as sink:
        write(sink)
        client.hset(f"{prefix}:{{chat-42}}", "format", 2)
        with pytest.raises(BackendMisconfigured, match="later version .* upgrade tokenwire"):
            sink.history("chat-42")
        with pytest.raises(BackendMisconfigured, match="upgrade tokenwire"):
            with sink.watch("chat-42", rewind="all"):
                pass
        write(sink, "other")
        assert sink.history("other").items
        client.hset(f"{prefix}:{{other}}", "format", 2)
        response = sink.respond("other", response_id="r2")
        response.write("waits")
        assert not sink.flush(0.3)
        client.hset(f"{prefix}:{{other}}", "format", 1)
        assert sink.flush(30)
        assert sink.history("other").items[0].text == "waits"
