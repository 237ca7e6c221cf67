"""What a provider's own chunk holds may be of any type: LlamaIndex passes it on as it is."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.llms import ChatMessage, ChatResponse

from tests.support.fuzz import EXAMPLES, VALUES, Json, Place, changed, places, values
from tests.support.sdk import fresh_sink
from tokenwire_adapters._agents.calls import Parts
from tokenwire_adapters._agents.llama_index.content import Reader

RAWS: list[Json] = [
    {"choices": [{"index": 0, "finish_reason": "stop"}], "usage": {"total_tokens": 1}},
    {"delta": {"stop_reason": "end_turn"}},
    {"response": {"status": "completed"}},
    {"done_reason": "stop"},
]
EXTRAS: list[Json] = [
    {"thinking_delta": "Hm", "prompt_tokens": 1, "usage": {"total_tokens": 1}},
    {"stop_reason": "end_turn"},
]


def _response(text: str, raw: Json, extra: Json) -> ChatResponse:
    message = ChatMessage(role="assistant", content=text)
    return ChatResponse(
        message=message,
        delta=text,
        raw=raw,
        additional_kwargs=extra if isinstance(extra, dict) else {},
    )


def _check(kind: str, template: Json, place: Place, value: Json) -> None:
    odd = changed(template, place, value)
    raw, extra = (odd, {}) if kind == "raw" else (None, odd)
    with fresh_sink() as sink:  # strict: what fails on our side raises
        with sink.respond("c") as writer:
            parts, reader = Parts(writer), Reader()
            reader.read(parts, _response("<1>", None, {}))
            reader.read(parts, _response("<2>", raw, extra))
            reader.read(parts, _response("<3>", None, {}))
            reader.read_last(parts, _response("", raw, extra))
            writer.finish(reader.finish_reason, reader.usage)
        (response,) = sink.history("c").items
    assert response.text == "<1><2><3>"
    assert response.state == "complete"


TEMPLATES = [*(("raw", raw) for raw in RAWS), *(("extra", extra) for extra in EXTRAS)]


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, Json, Place, Json]:
    """A kind of template, one of that kind, a place in it, and what to put there."""
    kind, template = draw(st.sampled_from(TEMPLATES))
    place = draw(st.sampled_from(list(places(template))))
    return kind, template, place, draw(values)


@settings(max_examples=EXAMPLES)
@given(changes())
def test_any_field_may_be_of_any_type(change: tuple[str, Json, Place, Json]) -> None:
    _check(*change)


def test_every_field_once() -> None:
    for kind, template in TEMPLATES:
        for place in places(template):
            for value in VALUES:
                _check(kind, template, place, value)
