"""JSON whose objects have attributes."""

import pytest

from tokenwire_adapters._agents.values import fields_of, to_json
from tokenwire_adapters._agents.wires.json_objects import MAX_DEPTH, JsonObject, decode


def test_objects_at_every_level() -> None:
    value = decode(b'{"a": [{"b": {"c": "\xc3\xa9"}}], "items": 1}')
    assert value.a[0].b.c == "é"
    assert value["items"] == 1
    assert next(iter(value.items()))[0] == "a"  # a method stays a method
    assert fields_of(value)["items"] == 1
    assert type(to_json(value)) is dict


def test_a_key_that_is_absent() -> None:
    value = decode("{}")
    assert getattr(value, "choices", "none") == "none"
    with pytest.raises(AttributeError, match="choices"):
        value.choices  # noqa: B018
    assert isinstance(value.model_extra, JsonObject)


@pytest.mark.parametrize("opener", ['{"a":', "["])
def test_how_deep(opener: str) -> None:
    closer = "}" if opener[0] == "{" else "]"
    decode(opener * MAX_DEPTH + "1" + closer * MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 5000, 200_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            decode(opener * depth + "1" + closer * depth)
    assert len(decode("[" + "[]," * 5000 + "[]]")) == 5001  # wide, not deep


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"a":1}x', b"1" * 5000])
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)
