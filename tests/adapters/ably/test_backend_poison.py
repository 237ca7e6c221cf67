"""Messages of others in Ably's channels, of any shape, cost no other message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapters.ably.test_backend_reassembly import Channel
from tests.support.profile import fuzzed
from tests.support.wrong_types import anything
from tokenwire.response import Transcript
from tokenwire_adapters._backends.ably.event_log import EventLog
from tokenwire_adapters._backends.ably.history_merge import MergedHistory
from tokenwire_adapters._backends.ably.wire import FORMAT_HEADER, ChannelMessage, from_ably

pytestmark = pytest.mark.timeout(3600)  # 20,000 examples take their time

_names = [FORMAT_HEADER, "responseId", "producer", "lease", "part", "kind", "offset", "length"]
_names += ["crc", "status", "start", "end", "type", "key", "piece", "pieces", "joined", "payload"]
_strings = st.sampled_from(["r", "other", "{}", '{"run": 5}', "[]", "data", "cancel", "text", "-1"])
_values = st.one_of(anything, _strings, st.integers(-1, 9), st.just(2**53))
_headers = st.dictionaries(st.sampled_from(_names), _values, max_size=10)
_messages = st.builds(
    SimpleNamespace,
    serial=st.one_of(anything, st.text("0123456789-@x:", min_size=1, max_size=9)),
    action=st.one_of(anything, st.integers(0, 6)),
    version=st.one_of(
        st.none(), st.builds(SimpleNamespace, serial=_values, timestamp=_values), anything
    ),
    timestamp=_values,
    extras=st.one_of(
        _headers.map(lambda headers: {"headers": {FORMAT_HEADER: 1, **headers}}),
        _headers.map(lambda headers: {"ai": headers, "headers": headers}),
        st.dictionaries(st.sampled_from(["headers", "ai"]), _values),
        anything,
    ),
    name=st.one_of(anything, st.sampled_from(["response", "end", "token", "data", "ai-output"])),
    data=st.one_of(anything, _strings),
    client_id=anything,
)


@settings(max_examples=fuzzed())
@given(others=st.lists(_messages, max_size=6), history=st.booleans())
def test_no_message_costs_another(others: list[Any], history: bool) -> None:
    channel = Channel()
    first = channel.write(None, 0, "Hel")
    messages: list[ChannelMessage] = [first]
    for other in others:
        message = from_ably(other, from_history=history)
        if message is not None and message.headers.get("responseId") != "r":
            messages.append(message)
    messages.append(channel.write(first.serial, 0, "lo", end=[5]))
    if history:
        last = messages.pop()
        messages[0] = last  # history has a message once
        log = EventLog("c")
        log.hydrate(messages)
        record = log.reassembler.records["r"]
        assert record.response.parts[0].text == "Hello"
        merged = MergedHistory("c", messages, None, every_event=False)
        assert merged.log.reassembler.records["r"].response.state == "complete"
        return
    log, transcript = EventLog("c"), Transcript()
    for message in messages:
        for event in log.add_message(message):
            if event.response_id == "r":
                transcript.apply(event)
    assert transcript["r"].parts[0].text == "Hello"
    assert transcript["r"].state == "complete"
