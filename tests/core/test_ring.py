"""The log of a hub: what readers at every position are given."""

from __future__ import annotations

from tokenwire._reading.ring import Ring, RingLimits
from tokenwire.events import DeltaEvent


def delta(number: int) -> DeltaEvent:
    return DeltaEvent(
        response_id="r", part=0, kind="text", offset=number, text="x", cursor=str(number)
    )


def test_who_reads_when_a_ring_begins_anew_has_fallen_behind() -> None:
    """Also a reader that has read everything: something may be missing after it."""
    ring = Ring(RingLimits(), int)
    ring.begin("0")
    first = ring.end
    for number in (1, 2):
        ring.append(delta(number))
    read_all = ring.end
    assert [item.event.cursor for item in ring.read(first) or ()] == ["1", "2"]
    assert ring.read(read_all) == []
    ring.begin("7")
    assert ring.read(first) is None
    assert ring.read(read_all) is None
    assert ring.read(ring.end) == []
    ring.append(delta(8))
    assert ring.position_after(7) == ring.end - 1
    assert ring.position_after(2) is None
