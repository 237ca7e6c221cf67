"""The clients' own reading of random streams agrees with ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapters.ui.ag_ui_checker import AgUiRun
from tests.adapters.ui.logs import Log, logs
from tests.adapters.ui.pages import Reader
from tests.adapters.ui.vercel_checker import VercelMessage, frames_of
from tests.support.profile import scaled
from tokenwire.encoding import Encoder, Frame
from tokenwire_adapters._web.vercel.messages import read_chunks
from tokenwire_adapters.ag_ui import AgUiEncoder
from tokenwire_adapters.vercel import VercelEncoder

pytestmark = pytest.mark.slow

FEW = settings(max_examples=scaled(40), suppress_health_check=[*HealthCheck])
USER = {"id": "u1", "role": "user", "content": "hm?"}


@pytest.fixture(scope="module", params=["ai", "ai-6"])
def sdk(request: Any) -> Iterator[Reader]:
    reader = Reader("vercel.mjs", AI_PACKAGE=request.param)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def ag_ui() -> Iterator[Reader]:
    reader = Reader("ag_ui.mjs")
    yield reader
    reader.close()


def seen(encoder: Encoder, log: Log, at: int) -> list[Frame]:
    encoder.prime(log.snapshots(at))  # type: ignore[attr-defined]
    return frames_of(encoder, log.events[at:])


def body(frames: list[Frame]) -> str:
    return b"".join(frame.sse() for frame in frames).decode()


@FEW
@given(log=logs(), at=st.integers(0, 60))
def test_the_ai_sdk_reads_what_we_read(sdk, log, at):
    frames = seen(VercelEncoder(run=log.run, enveloped=log.enveloped), log, at)
    (result,) = sdk.read([body(frames)])
    message = VercelMessage().read(frames)
    assert result["errors"] == ([message.error] if message.error else [])
    theirs = result["message"]
    assert theirs["id"] == message.id
    assert theirs["metadata"]["state"] == message.metadata["state"]
    assert [shape(p) for p in theirs["parts"]] == [shape(p) for p in message.parts]
    # What we save of a run is what a page has of it.
    saved = [full(part) for part in read_chunks(frames)["parts"]]
    theirs_in_full = [full(part) for part in theirs["parts"]]
    for ours, their in zip(saved, theirs_in_full, strict=True):
        if "input" not in ours:  # cut off: the SDK guesses at what the arguments were to be
            their.pop("input", None)
    assert saved == theirs_in_full


def shape(part: dict[str, Any]) -> dict[str, Any]:
    return {name: part[name] for name in ("type", "text", "toolCallId", "output") if name in part}


def full(part: dict[str, Any]) -> dict[str, Any]:
    ours = {"rawInput", "title", "preliminary", "providerMetadata"}
    found = {name: value for name, value in part.items() if name not in ours}
    if found.get("state") == "output-error" and found.get("input", 0) is None:
        del found["input"]
    return found


@FEW
@given(log=logs(), at=st.integers(0, 60))
def test_the_client_of_ag_ui_reads_what_we_read(ag_ui, log, at):
    frames = seen(AgUiEncoder(run=log.run, enveloped=log.enveloped, history=[USER]), log, at)
    (result,) = ag_ui.read([body(frames)], messages=[USER])
    run = AgUiRun([USER]).read(frames)
    assert result["warnings"] == []
    assert result.get("error") is None
    theirs = {each["id"]: each for each in result["messages"]}
    assert theirs == {each["id"]: each for each in run.messages}
