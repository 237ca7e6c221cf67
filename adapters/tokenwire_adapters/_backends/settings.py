"""Settings that several backends take: by keyword, or as query parameters of a URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from tokenwire.memory import Retention

__all__ = ["RETENTION_PARAMETERS", "make_settings", "parse_parameter"]

RETENTION_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "responses": int,
    "age": lambda text: None if text == "none" else float(text),
    "bytes": int,
    "events": int,
    "event_bytes": int,
}
"""The fields of `Retention`, with what reads each from the text of a query parameter."""

S = TypeVar("S", bound=msgspec.Struct)


def parse_parameter(name: str, text: str, convert: Callable[[str], Any]) -> Any:
    """Read the value of a query parameter.

    :raises ValueError: naming the parameter, and nothing else of the URL.
    """
    try:
        return convert(text)
    except ValueError:
        raise ValueError(f"{name} in the URL is not a number") from None


def make_settings(kind: type[S], backend: str, options: Mapping[str, Any]) -> S:
    """Make a backend's settings from keyword arguments; check those that backends share.

    :param kind: a struct with the fields `granularity`, `retention`, `timeout`, `page_bytes`.
    :param backend: its name, for errors.
    :raises ValueError: naming the setting that is wrong.
    """
    values = dict(options)
    limits = {name: values.pop(name) for name in list(values) if name in RETENTION_PARAMETERS}
    unknown = sorted(set(values) - set(kind.__struct_fields__))
    if unknown:
        raise ValueError(f"no such setting of the {backend} backend: {', '.join(unknown)}")
    if limits:
        retention = values.get("retention", Retention())
        values["retention"] = msgspec.structs.replace(retention, **limits)
    settings = kind(**values)
    shared = cast("Any", settings)  # a type variable cannot say which fields its structs have
    if shared.granularity not in ("response", "token"):
        raise ValueError("granularity must be 'response' or 'token'")
    for name in ("timeout", "page_bytes"):
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} must be more than 0")
    limit = shared.retention
    if min(limit.responses, limit.bytes, limit.events, limit.event_bytes) < 0:
        raise ValueError("the limits of retention cannot be less than 0")
    if limit.age is not None and not limit.age > 0:
        raise ValueError("age must be more than 0 seconds, or None")
    return settings
