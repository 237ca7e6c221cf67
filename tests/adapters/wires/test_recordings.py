"""Every recording, as bytes cut anywhere, gives the response that it gives through the SDK."""

from typing import Any

import pytest
from hypothesis import given, settings

from tests.adapters.wires.reading import cuts, read
from tests.support.profile import scaled
from tests.support.recordings import Recording, parameters
from tests.support.sdk import check

PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "anthropic": "/v1/messages",
}


@pytest.mark.parametrize("recording", parameters())
@settings(max_examples=scaled(20))
@given(sizes=cuts())
def test_recording(recording: Recording, sizes: list[int]) -> None:
    request: dict[str, Any] = {"model": recording.model, "stream": True}
    request |= {"input": "x"} if recording.api == "responses" else {"messages": []}
    texts = recording.expected.texts
    if texts:
        request["n"] = len(texts)
    responses = read(PATHS[recording.api], request, recording.body, sizes=sizes)
    check(responses[0], recording.expected)
    if texts:
        assert [response.text for response in responses] == texts
        assert [response.finish_reason for response in responses] == recording.expected.finishes
