"""The fixtures that the pytest plugin brings."""

from __future__ import annotations

import pytest

from tokenwire import InvalidName, Sink, default_sink
from tokenwire.testing import FaultyBackend, Publish


def test_what_a_closed_response_wrote_is_visible(tokenwire_sink: Sink) -> None:
    with tokenwire_sink.respond("chat", response_id="r") as response:
        response.write("Hello")
    assert tokenwire_sink.history("chat").items[0].text == "Hello"


def test_problems_raise(tokenwire_sink: Sink) -> None:
    with pytest.raises(InvalidName):
        tokenwire_sink.respond("")


@pytest.mark.parametrize("fault", list(Publish))
def test_faults_heal(
    tokenwire_sink: Sink, tokenwire_backend: FaultyBackend, fault: Publish
) -> None:
    with tokenwire_sink.respond("chat") as response:
        tokenwire_backend.publish_faults.append(fault)
        response.write("Hello")
    assert response.wait(30).status in ("delivered", "recovered")
    assert tokenwire_sink.history("chat").items[0].text == "Hello"


def test_code_that_names_no_sink_gets_this_one(tokenwire_default: Sink) -> None:
    assert default_sink() is tokenwire_default
