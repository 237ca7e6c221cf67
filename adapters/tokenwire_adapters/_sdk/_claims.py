"""Listening to the SDKs for a framework's hook, which alone cannot stop a provider."""

from __future__ import annotations

import importlib
import logging
import sys

__all__ = ["hear_claims"]

logger = logging.getLogger("tokenwire")

_tried: set[str] = set()


def hear_claims() -> None:
    """Hear, of each SDK that is in use, the calls that a claim covers, and no other.

    The SDKs' adapters are found by name, as encoders are: frameworks' adapters import none of them.
    """
    for name in ("openai", "anthropic"):
        if name in sys.modules and name not in _tried:
            _tried.add(name)
            try:
                importlib.import_module(f"tokenwire_adapters.{name}")._SDK.hear_claims()
            except Exception:
                logger.warning("tokenwire: cannot listen to %s", name, exc_info=True)
