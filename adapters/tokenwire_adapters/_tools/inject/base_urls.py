"""Base URLs that ``tokenwire run`` has pointed at its proxy, put back for who needs none."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

__all__ = ["PROXY", "SAVED", "restore_base_urls"]

PROXY = "TOKENWIRE_PROXY"
"""The variable with the address of the proxy, ``http://127.0.0.1:PORT``."""
SAVED = "TOKENWIRE_RUN_SAVED"
"""The variable with what those of base URLs had before, as JSON."""


def restore_base_urls(env: MutableMapping[str, str]) -> None:
    """Put the variables of base URLs back: this process publishes by itself, without the proxy."""
    env.pop(PROXY, None)
    try:
        saved: dict[str, Any] = json.loads(env.pop(SAVED, "") or "{}")
    except ValueError:
        return
    for name, value in saved.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
