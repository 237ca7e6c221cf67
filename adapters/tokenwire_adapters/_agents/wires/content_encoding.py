"""Decodes the content encodings of HTTP, piece by piece and in bounded memory."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from tokenwire_adapters._agents.wires.errors import UnreadableReply

__all__ = ["ContentDecoder"]

_PIECE = 256 * 1024  # bytes that one step of zlib may give
_SLICE = 256  # bytes that a decoder is given at once that has no bound for what it gives


class _Decoder(Protocol):
    def decode(self, data: bytes) -> Iterator[bytes]: ...


class ContentDecoder:
    """Undoes what ``content-encoding`` names, which may be several encodings.

    :param header: the header's value.
    :raises UnreadableReply: for an encoding that is not known, or whose library is not installed.
    """

    def __init__(self, header: str) -> None:
        names = [name.strip().lower() for name in header.split(",")]
        self._decoders = [_open(name) for name in names if name not in ("", "identity")][::-1]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decoded bytes, in pieces.

        :raises UnreadableReply: for what is not encoded so.
        """
        pieces: Iterator[bytes] = iter((data,))
        for decoder in self._decoders:
            pieces = _decode_all(decoder, pieces)
        return pieces


def _decode_all(decoder: _Decoder, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield from decoder.decode(piece)


class _Zlib:
    """``gzip`` of any number of members, and ``deflate``, with zlib's header or bare."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._wbits = zlib.MAX_WBITS | 16 if name == "gzip" else zlib.MAX_WBITS
        self._zlib: Any = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                if self._zlib is None:
                    bare = self._name == "deflate" and data[0] & 0x0F != 8
                    self._zlib = zlib.decompressobj(-zlib.MAX_WBITS if bare else self._wbits)
                piece = self._zlib.decompress(data, _PIECE)
                yield piece
                data = self._zlib.unconsumed_tail
                if self._zlib.eof:
                    data = self._zlib.unused_data.lstrip(b"\0")  # padding
                    self._zlib = None
        except zlib.error as error:
            raise UnreadableReply(f"the reply is not encoded with {self._name}") from error


class _Zstd:
    """A decoder of zstd, given so little at once that what it gives is bounded."""

    def __init__(self, decompress: Callable[[bytes], bytes]) -> None:
        self._decompress = decompress

    def decode(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _SLICE):
            try:
                piece = self._decompress(data[start : start + _SLICE])
            except Exception as error:  # each library has an error of its own
                raise UnreadableReply("the reply is not encoded with zstd") from error
            if piece:
                yield piece


class _Brotli:
    """A decoder of the packages ``brotli`` and ``brotlicffi``, of 1.2 or later."""

    def __init__(self, module: Any) -> None:
        self._decompressor = module.Decompressor()
        name = "process" if hasattr(self._decompressor, "process") else "decompress"
        self._step: Callable[..., bytes] = getattr(self._decompressor, name)

    def decode(self, data: bytes) -> Iterator[bytes]:
        try:
            yield self._step(data, output_buffer_limit=_PIECE)
            while not self._decompressor.can_accept_more_data():
                yield self._step(b"", output_buffer_limit=_PIECE)
        except TypeError:
            raise UnreadableReply("cannot read a reply that is encoded with 'br' here") from None
        except Exception as error:  # each package has an error of its own
            raise UnreadableReply("the reply is not encoded with br") from error


def _zstandard(module: Any) -> _Decoder:
    return _Zstd(module.ZstdDecompressor().decompressobj().decompress)


def _zstd(module: Any) -> _Decoder:
    return _Zstd(module.ZstdDecompressor().decompress)


_LIBRARIES: dict[str, tuple[tuple[str, Callable[[Any], _Decoder]], ...]] = {
    "br": (("brotli", _Brotli), ("brotlicffi", _Brotli)),
    "zstd": (
        ("compression.zstd", _zstd),
        ("zstandard", _zstandard),
        ("backports.zstd", _zstd),
    ),
}
"""The modules that know an encoding."""


def _open(name: str) -> _Decoder:
    if name in ("gzip", "x-gzip", "deflate"):
        return _Zlib(name.removeprefix("x-"))
    for module, make_decoder in _LIBRARIES.get(name, ()):
        try:
            return make_decoder(importlib.import_module(module))
        except ImportError:
            continue
    raise UnreadableReply(f"cannot read a reply that is encoded with {name!r} here")
