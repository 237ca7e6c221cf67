"""What Redis keeps of a response, who may write it, and what producers hear."""

from __future__ import annotations

import asyncio

import pytest

from tests.adapters.redis.support import (
    PATIENCE,
    RecordingReceiver,
    another,
    kept_in,
    make_delta,
    make_entry,
    make_start,
    publish,
)
from tokenwire.backend import Entry, Lease, ReplayFrom
from tokenwire.errors import (
    BackendUnavailable,
    Fenced,
    PublishRejected,
    ResponseUnknown,
)
from tokenwire.events import (
    CancelEvent,
    DataEvent,
    EndEvent,
    InputEvent,
    Part,
    PartEvent,
    Response,
    SnapshotEvent,
    ToolResult,
    ToolResultEvent,
)

pytestmark = pytest.mark.redis


# -- the text of a response


async def test_parts_that_grow_side_by_side(backend, shared_redis):
    text = {0: "", 1: "", 2: ""}
    await publish(backend, make_entry(0, make_start()))
    seq = 1
    for number in range(30):
        part = (number * 7) % 3 if number > 3 else min(number, 2)
        piece = f"<{number}é🙂>"
        await publish(
            backend, make_entry(seq, make_delta(len(text[part]), piece, part, f"kind{part}"))
        )
        text[part] += piece
        seq += 1
    kept = (await kept_in(backend))["r"]
    assert {number: part.text for number, part in enumerate(kept.parts)} == text
    await publish(backend, make_entry(seq, EndEvent(response_id="r", state="complete")))
    kept = (await kept_in(backend))["r"]
    assert {number: part.text for number, part in enumerate(kept.parts)} == text
    assert (kept.state, kept.metadata, kept.run) == ("complete", {"a": 1}, "run")


async def test_text_is_kept_once_however_many_deltas(backend, shared_redis):
    await publish(backend, make_entry(0, make_start()))
    for number in range(200):
        await publish(backend, make_entry(number + 1, make_delta(number * 5, "word ")))
    size = shared_redis.cli("STRLEN", "tokenwire:{c}:t:r")
    assert size < 200 * 5 + 250
    assert (await kept_in(backend))["r"].text == "word " * 200


async def test_overlaps_count_once_and_holes_are_refused(backend):
    await publish(backend, make_entry(0, make_start(), make_delta(0, "héllo")))
    await publish(
        backend, make_entry(1, make_delta(3, "lo wörld")), make_entry(2, make_delta(0, "hé"))
    )
    await publish(backend, make_entry(3, make_delta(11, "!")))
    for event in (make_delta(20, "x"), make_delta(0, "x", part=2), PartEvent(
        response_id="r", part=3, kind="data"
    )):  # fmt: skip
        (outcome,) = await backend.publish([make_entry(4, make_delta(12, "never"), event)])
        assert isinstance(outcome.error, PublishRejected)
    assert (await kept_in(backend))["r"].text == "héllo wörld!"


async def test_a_snapshot_takes_the_place_of_what_is_there(backend, shared_redis):
    await publish(backend, make_entry(0, make_start(), make_delta(0, "abc")))
    result = ToolResultEvent(call_id="c1", response_id="r", output=1)
    await publish(backend, Entry(channel="c", events=(result,), key="k"))
    whole = Response(id="r", channel="c", parts=(Part(kind="text", text="abcdef"),))
    await publish(backend, make_entry(1, SnapshotEvent(response=whole)))
    await publish(backend, make_entry(2, make_delta(6, "ghi")))
    behind = Response(id="r", channel="c", parts=(Part(kind="text", text="ab"),))
    await publish(backend, make_entry(3, SnapshotEvent(response=behind)))
    kept = (await kept_in(backend))["r"]
    assert kept.text == "abcdefghi"
    assert [r.call_id for r in kept.tool_results] == ["c1"]


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65_535, 65_536])
async def test_text_may_have_any_length(backend, size):
    """The header of a text in msgpack differs with its length."""
    text = "x" * size
    await publish(backend, make_entry(0, make_start(), make_delta(0, text)))
    await publish(backend, make_entry(1, make_delta(size, "!")))
    assert (await kept_in(backend))["r"].text == text + "!"


async def test_a_snapshot_with_tool_results_is_delivered(backend, shared_redis):
    reader = await another(shared_redis)
    receiver = RecordingReceiver()
    subscription = await reader.subscribe("c", receiver)
    whole = Response(
        id="r",
        channel="c",
        parts=(Part(kind="text", text="text"),),
        tool_results=(ToolResult(call_id="c1", output=1),),
    )
    await publish(backend, make_entry(0, make_start(), SnapshotEvent(response=whole)))
    await receiver.until(2)
    replay = await reader.replay("c", ReplayFrom(all=True))
    assert [event.type for event in receiver.events] == ["start", "snapshot"]
    assert receiver.events[1].response.tool_results == whole.tool_results
    assert replay.events[0].response.tool_results == whole.tool_results
    exact = await reader.replay("c", ReplayFrom(after=receiver.events[0].cursor))
    assert [event.type for event in exact.events] == ["snapshot"]
    assert reader.unreadable == 0
    await subscription.close()
    await reader.close()


async def test_a_snapshot_of_very_many_parts_is_kept(backend):
    """More of them than Lua gives to one command."""
    parts = tuple(Part(kind="data", text=str(number)) for number in range(5000))
    snapshot = SnapshotEvent(response=Response(id="r", channel="c", parts=parts))
    await publish(backend, make_entry(0, make_start(), snapshot))
    delta = make_delta(4, "!", part=4999, kind="data")
    await publish(backend, make_entry(1, delta, EndEvent(response_id="r", state="complete")))
    kept = (await kept_in(backend))["r"]
    assert [part.text for part in kept.parts] == [*map(str, range(4999)), "4999!"]
    assert kept.state == "complete"


async def test_large_entries_are_announced_and_read_from_the_log(backend, shared_redis):
    reader = await another(shared_redis)
    receiver = RecordingReceiver()
    subscription = await reader.subscribe("c", receiver)
    text = "x" * 3_000_000
    await publish(backend, make_entry(0, make_start(), make_delta(0, text)))
    async with asyncio.timeout(PATIENCE):
        while not receiver.resyncs:
            await asyncio.sleep(0.001)
    assert not receiver.events
    assert (await kept_in(reader))["r"].text == text
    await subscription.close()
    await reader.close()


# -- exactly once, and by whom


async def test_retries_are_taken_once(backend, shared_redis):
    entry = make_entry(0, make_start(), make_delta(0, "one"))
    first = await publish(backend, entry)
    again = await publish(backend, entry, entry)
    assert {outcome.cursor for outcome in (*first, *again)} == {first[0].cursor}
    single = Entry(channel="c", events=(DataEvent(name="n", id="i"),), key="k")
    assert len({o.cursor for o in await publish(backend, single, single)}) == 1
    assert shared_redis.cli("XLEN", "tokenwire:{c}:log") == 2


async def test_who_may_write(backend):
    (outcome,) = await backend.publish([make_entry(0, make_delta(0, "x"))])
    assert isinstance(outcome.error, ResponseUnknown)
    await publish(backend, make_entry(0, make_start()))
    (outcome,) = await backend.publish([make_entry(5, make_delta(0, "x"), fence="other")])
    assert type(outcome.error) is Fenced
    await publish(backend, make_entry(1, EndEvent(response_id="r", state="complete")))
    (outcome,) = await backend.publish([make_entry(2, make_delta(0, "x"))])
    assert type(outcome.error) is Fenced


async def test_a_batch_has_an_outcome_for_each_entry(backend):
    entries = [
        make_entry(0, make_start(f"r{n}"), response_id=f"r{n}", channel=f"c{n}") for n in range(200)
    ]
    entries[7] = make_entry(0, make_delta(0, "x"), response_id="nobody", channel="c7")
    outcomes = await backend.publish(entries)
    assert [n for n, outcome in enumerate(outcomes) if outcome.error] == [7]
    assert all(outcome.cursor for n, outcome in enumerate(outcomes) if n != 7)


async def test_a_write_is_a_sign_of_life(backend, shared_redis):
    """A producer that writes keeps its lease, though it never renews."""
    await publish(backend, make_entry(0, make_start(), lease=1.6))
    begun = float(shared_redis.cli("ZSCORE", "tokenwire:{c}:open", "r"))
    await asyncio.sleep(0.2)  # what is tested here is time itself: more than a 16th of the lease
    await publish(backend, make_entry(1, make_delta(0, "x"), lease=1.6))
    assert float(shared_redis.cli("ZSCORE", "tokenwire:{c}:open", "r")) >= begun + 200


async def test_what_too_few_replicas_have_is_to_be_tried_again(shared_redis):
    backend = await another(shared_redis, replicas=1, timeout=2.0)
    with pytest.raises(BackendUnavailable, match="replicas"):
        await publish(backend, make_entry(0, make_start()))
    await backend.close()


async def test_leases_are_kept_by_the_servers_clock(backend, shared_redis):
    other = await another(shared_redis)
    await publish(backend, make_entry(0, make_start(), lease=0.3))
    lease = Lease("c", "r", "f", 60.0)
    assert not (await backend.renew([lease]))[0].lost
    assert (await backend.renew([Lease("c", "r", "not mine", 60.0)]))[0].lost
    assert (await backend.renew([Lease("c", "nobody", "f", 60.0)]))[0].unknown
    await asyncio.sleep(0.4)  # what is tested here is time itself
    assert await other.reap("c") == 0
    assert not (await backend.renew([Lease("c", "r", "f", 0.05)]))[0].lost
    await asyncio.sleep(0.1)
    counts = await asyncio.gather(*(one.reap("c") for one in (backend, other, backend, other)))
    assert sorted(counts) == [0, 0, 0, 1]
    assert (await backend.renew([lease]))[0].lost
    kept = (await kept_in(other))["r"]
    assert kept.state == "abandoned"
    assert "0.05 s" in (kept.error or "")
    await other.close()


# -- cancels and inputs


async def test_producers_hear_cancels_and_inputs_only(backend, shared_redis):
    other = await another(shared_redis)
    receiver = RecordingReceiver()
    await backend.control("c", receiver)
    await publish(
        backend, make_entry(0, make_start(), make_delta(0, "tokens nobody needs to hear"))
    )
    cancel = CancelEvent(response_id="r", reason="enough")
    (outcome,) = await publish(other, Entry(channel="c", events=(cancel,), key="k1"))
    assert outcome.state == "streaming"
    await publish(other, Entry(channel="c", events=(InputEvent(name="m"),), key="k2"))
    events = await receiver.until(2)
    assert [event.type for event in events] == ["cancel", "input"]
    (outcome,) = await publish(backend, make_entry(1, make_delta(27, "!")))
    assert outcome.cancel is not None
    assert outcome.cancel.reason == "enough"
    (state,) = await backend.renew([Lease("c", "r", "f", 60.0)])
    assert state.cancel == outcome.cancel
    ended = EndEvent(response_id="r", state="cancelled")
    (outcome,) = await publish(backend, make_entry(2, ended))
    (outcome,) = await publish(other, Entry(channel="c", events=(cancel,), key="k3"))
    assert outcome.state == "cancelled"
    (again,) = await publish(other, Entry(channel="c", events=(cancel,), key="k3"))
    assert again == outcome
    await other.close()


async def test_a_cancel_waits_for_its_response(backend, shared_redis):
    cancel = CancelEvent(response_id="r", reason="early")
    (outcome,) = await publish(backend, Entry(channel="c", events=(cancel,), key="k"))
    assert outcome.state is None
    (outcome,) = await publish(backend, make_entry(0, make_start()))
    assert outcome.cancel is not None
    (outcome,) = await publish(backend, make_entry(1, make_delta(0, "x")))
    assert outcome.cancel is not None
    assert shared_redis.cli("EXISTS", "tokenwire:{c}:cancels") == 0


async def test_a_cancel_waits_while_as_many_come_as_are_remembered(backend):
    cancels = [
        Entry(channel="c", events=(CancelEvent(response_id=f"r{n}"),), key=f"k{n}")
        for n in range(2049)  # with the last one, the hash of the others is put aside
    ]
    for begin in range(0, len(cancels), 500):
        await publish(backend, *cancels[begin : begin + 500])
    (outcome,) = await publish(backend, make_entry(0, make_start("r0"), response_id="r0"))
    assert outcome.cancel is not None


async def test_cancels_of_nothing_are_bounded(backend, shared_redis):
    for begin in range(0, 6000, 500):
        await publish(
            backend,
            *(
                Entry(channel="c", events=(CancelEvent(response_id=f"r{n}"),), key=f"k{n}")
                for n in range(begin, begin + 500)
            ),
        )
    for kind in ("cancels", "keys"):
        sizes = [shared_redis.cli("HLEN", f"tokenwire:{{c}}:{kind}{old}") for old in ("", ":old")]
        assert sum(sizes) <= 4096
    (outcome,) = await publish(backend, make_entry(0, make_start("r5999"), response_id="r5999"))
    assert outcome.cancel is not None
