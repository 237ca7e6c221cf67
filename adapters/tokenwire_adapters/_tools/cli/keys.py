"""Reads keys from a file or the environment, never the command line, which others can see."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from tokenwire_adapters._tools.cli.errors import Failure

__all__ = ["KEY_HELP", "VARIABLE", "read_key"]

VARIABLE = "TOKENWIRE_KEY"
KEY_HELP = f"a secret (32 bytes or more), a PEM or a JWK (set); - for stdin (default: ${VARIABLE})"


def read_key(path: str | None) -> bytes | dict[str, Any] | None:
    """Read a key in any form that `Tokens` and `mint_token` take; None where there is none.

    :raises Failure: when the file cannot be read, or is a JWK that is not JSON.
    """
    if path is None:
        raw = os.environ.get(VARIABLE, "").encode()
    elif path == "-":
        raw = sys.stdin.buffer.read(65536)
    else:
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise Failure(f"cannot read the key {path}: {error.strerror or error}") from error
    raw = raw.strip()
    if not raw.startswith(b"{"):
        return raw or None
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Failure("the key begins like a JWK, but is not JSON") from error
