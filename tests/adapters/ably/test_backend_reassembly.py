"""The log that readers are sent, whatever order and shape messages arrive in."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tokenwire.events import EndEvent, StartEvent
from tokenwire.response import Transcript
from tokenwire_adapters._backends.ably.event_log import EventLog
from tokenwire_adapters._backends.ably.wire import (
    FORMAT_HEADER,
    ChannelMessage,
    end_headers,
    start_headers,
    text_crc,
)


class Channel:
    """Messages as Ably keeps them; `as_append` is one as a subscriber may get it."""

    def __init__(self) -> None:
        self.clock = 0
        self.messages: dict[str, ChannelMessage] = {}

    def write(
        self, serial: str | None, part: int, text: str, end: list[int] | None = None
    ) -> ChannelMessage:
        self.clock += 1
        version = f"{self.clock:08d}-000@x:000"
        old = self.messages.get(serial or "")
        whole = (old.data if old else "") + text
        headers: dict[str, Any] = {
            FORMAT_HEADER: 1,
            "responseId": "r",
            "producer": "f",
            "lease": 1000,
        }
        headers |= {"lease": 1000, "part": part, "kind": f"kind-{part}", "offset": 0}
        headers |= {"length": len(whole), "crc": text_crc(whole), "status": "streaming"}
        if part == 0:
            headers |= start_headers(StartEvent(response_id="r"))
        if end is not None:
            headers |= end_headers(EndEvent(response_id="r", state="complete"), end)
        message = ChannelMessage(
            action="update" if old else "create",
            serial=old.serial if old else version,
            version=version,
            created=self.clock,
            updated=self.clock,
            name="response",
            data=whole,
            headers=headers,
        )
        self.messages[message.serial] = message
        return message


def as_append(msg: ChannelMessage, text: str) -> ChannelMessage:
    return ChannelMessage(
        **{f: getattr(msg, f) for f in ChannelMessage.__struct_fields__}
        | {"action": "append", "data": text}
    )


@given(st.data())
def test_any_arrival(data: st.DataObject) -> None:
    channel, log, transcript = Channel(), EventLog("c"), Transcript()
    sent: list[ChannelMessage] = []
    serials: dict[int, str] = {}
    texts = ["", "", ""]
    for step in range(data.draw(st.integers(1, 12))):
        part = 0 if step == 0 else data.draw(st.integers(0, min(2, len(serials))))
        text = data.draw(st.sampled_from(["a", "bc", "d é", "🙂", "  "]))
        msg = channel.write(serials.get(part), part, text)
        texts[part] += text
        # The first sight of a message, and now and then another, is whole.
        whole = part not in serials or data.draw(st.booleans())
        serials[part] = msg.serial
        sent.append(msg if whole else as_append(msg, text))
    extent = [len(text) for text in texts if text]
    sent.append(as_append(channel.write(serials[0], 0, "", extent), ""))
    arriving = [msg for msg in sent for _ in range(data.draw(st.sampled_from([0, 1, 1, 1, 2])))]
    if data.draw(st.booleans()):
        arriving = data.draw(st.permutations(arriving))
    seen = []
    for msg in arriving:
        seen += log.add_message(msg)
    if log.reassembler.incomplete or not seen or seen[-1].type != "end":
        seen += log.catch_up(list(channel.messages.values()))
    before: dict[int, str] = {}
    for event in seen:
        response = transcript.apply(event)  # raises where something is missing
        assert response is not None
        for index, part in enumerate(response.parts):
            assert part.text.startswith(before.get(index, ""))
            before[index] = part.text
    assert [part.text for part in transcript["r"].parts] == [text for text in texts if text]
    assert [event.type for event in seen].count("end") == 1
    assert [event.type for event in seen].count("start") == 1
    cursors = [log_order(event.cursor) for event in seen]
    assert cursors == sorted(set(cursors))


def log_order(cursor: str | None) -> Any:
    from tokenwire_adapters._backends.ably.cursors import parse_cursor

    return parse_cursor(cursor or "")


def test_a_doubled_append_in_history_is_not_shown_as_text() -> None:
    channel, log = Channel(), EventLog("c")
    msg = channel.write(None, 0, "abc")
    wrong = replace(msg, data="abcabc")
    log.hydrate([wrong])
    record = log.reassembler.records["r"]
    assert record.assembler.length == 0
    assert log.reassembler.incomplete == {"r"}
    assert [event.type for event in log.add_message(channel.write(msg.serial, 0, "d"))] == ["delta"]
    assert record.response.parts[0].text == "abcd"
    assert not log.reassembler.incomplete


def test_an_abandoned_response_ends_though_some_of_its_text_is_lost() -> None:
    """Whoever ended it had read all of history: what is missing there will not come."""
    channel, log = Channel(), EventLog("c")
    started = channel.write(None, 0, "abc")
    end = replace(
        channel.write(None, 1, ""),
        name="end",
        data="",
        headers={FORMAT_HEADER: 1, "responseId": "r", "producer": "f"}
        | end_headers(EndEvent(response_id="r", state="abandoned"), [5]),
    )
    log.hydrate([started])
    assert log.add_message(end) == []  # what is missing may be on its way
    assert log.reassembler.incomplete == {"r"}
    assert [event.type for event in log.catch_up([started, end])] == ["end"]
    response = log.reassembler.records["r"].response
    assert (response.text, response.state) == ("", "abandoned")
    assert response.parts[0].text == "abc"
    assert not log.reassembler.incomplete
