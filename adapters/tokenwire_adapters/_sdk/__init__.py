"""What the taps of provider SDKs share: one request, its stream, and the responses it makes.

Nothing here imports an SDK: chunks and clients are known by their shape, so that every version in
use, and every server that speaks a provider's API a little differently, can be read.
"""

from tokenwire_adapters._sdk._patch import Sdk
from tokenwire_adapters._sdk._places import Places, Recognise
from tokenwire_adapters._sdk._seen import reader_of, seen
from tokenwire_adapters._sdk._tap import Channel, Metadata, OnCancel, Options, Tap

__all__ = [
    "Channel",
    "Metadata",
    "OnCancel",
    "Options",
    "Places",
    "Recognise",
    "Sdk",
    "Tap",
    "reader_of",
    "seen",
]
