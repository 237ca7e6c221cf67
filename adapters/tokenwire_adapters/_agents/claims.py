"""What frameworks' hooks and the taps of SDKs agree on: who listens, and which claim covers a call.

A context variable says which claim covers the code that runs now. That is not enough where a
framework's call gives a generator that asks the provider when it is read: it may be read in
another context, or after other calls have begun in the same one. Such a framework gives a finder.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable

from tokenwire.context import Claim, current_claim

__all__ = ["Finder", "add_finder", "covering_claim", "instrument_claimed_calls"]

logger = logging.getLogger("tokenwire")

Finder = Callable[[], Claim | None]
"""Finds the claim of the framework's call on whose behalf the caller runs. Never raises."""

_tried: set[str] = set()
_finders: list[Finder] = []


def instrument_claimed_calls() -> None:
    """Hear, of each SDK that is in use, the calls that a claim covers, and no other.

    The SDKs' adapters are found by name, as encoders are: frameworks' adapters import none of them.
    """
    for name in ("openai", "anthropic"):
        if name in sys.modules and name not in _tried:
            _tried.add(name)
            try:
                importlib.import_module(
                    f"tokenwire_adapters.{name}"
                )._INSTRUMENTOR.instrument_claimed_calls()
            except Exception:
                logger.warning("tokenwire: cannot listen to %s", name, exc_info=True)


def add_finder(finder: Finder) -> None:
    """Ask `finder`, too, which claim covers a call; idempotent."""
    if finder not in _finders:
        _finders.append(finder)


def covering_claim() -> Claim | None:
    """The claim that covers a call made here and now; None where there is none.

    A finder knows better than the context, unless its claim was taken and the context's was not:
    then the context's is of a further call, made by the same generator.
    """
    here = current_claim()
    for finder in _finders:
        found = finder()
        if found is not None and not found.closed:
            return here if found.taken and here is not None and not here.taken else found
    return here
