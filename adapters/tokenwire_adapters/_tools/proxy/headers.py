"""Which headers a proxy passes on: all but those of one connection, and its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["CHANNEL", "RUN", "end_to_end", "names_of", "request_headers"]

Headers = list[tuple[bytes, bytes]]

CHANNEL = "x-tokenwire-channel"
"""The request header that names the channel of the response."""
RUN = "x-tokenwire-run"
"""The request header that names the agent run of the response."""

_OWN = b"x-tokenwire-"

# RFC 9110, section 7.6.1, and the older ones of RFC 2616, section 13.5.1.
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers without those that concern one connection only, and those it names itself."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in pairs
        if name == b"connection"
        for token in value.split(b",")
    }
    dropped = _HOP_BY_HOP | named
    return [(name, value) for name, value in pairs if name not in dropped]


def request_headers(
    headers: Iterable[tuple[bytes, bytes]], host: str, length: int | None
) -> Headers:
    """The headers of a request to the upstream.

    :param length: of the body; None where that is passed on as it comes.
    """
    kept = [
        (name, value)
        for name, value in end_to_end(headers)
        if name != b"host" and not name.startswith(_OWN) and name != b"expect"
    ]
    sized = any(name == b"content-length" for name, _ in kept)
    if length is None and not sized:
        kept.append((b"transfer-encoding", b"chunked"))
    elif length and not sized:
        kept.append((b"content-length", str(length).encode()))
    return [(b"host", host.encode("ascii")), *kept]


def names_of(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Headers as text, by lower-case name; several of one name are joined by commas."""
    table: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        table[name] = f"{table[name]}, {value}" if name in table else value
    return table
