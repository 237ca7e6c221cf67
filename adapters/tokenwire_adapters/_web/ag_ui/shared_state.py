"""The state that an agent shares with its clients, as runs have left it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jsonpatch
import jsonpointer
import msgspec

from tokenwire.events import Response
from tokenwire_adapters._web.ui.json import MAX_METADATA
from tokenwire_adapters._web.ui.runs import Run

__all__ = ["STATE", "bounded_state", "state_of"]

STATE = "ag_ui_state"
"""The metadata field with the state that a client gave a run to begin with."""


def bounded_state(state: Any) -> dict[str, Any]:
    """The metadata of a run that begins with a client's state.

    An empty one, as a client has before it has joined, leaves the state as it is.
    """
    if not state or len(msgspec.json.encode(state)) > MAX_METADATA:
        return {}
    return {STATE: state}


def state_of(runs: Sequence[Run]) -> Any:
    """The state after these runs, oldest first; None where there is none."""
    state: Any = None
    for run in runs:
        state = run.metadata.get(STATE, state)
        for response in run.responses:
            state = _after(state, response)
    return state


def _after(state: Any, response: Response) -> Any:
    for part in response.parts:
        if part.kind != "data" or part.data is None:
            continue
        if part.name == "state":
            state = part.data
        elif part.name == "state_delta":
            state = _patched(state, part.data)
    return state


def _patched(state: Any, patch: Any) -> Any:
    """The state after a JSON Patch; as it was where the patch does not fit, as clients have it."""
    try:
        return jsonpatch.apply_patch({} if state is None else state, patch)
    except (
        jsonpatch.JsonPatchException,
        jsonpointer.JsonPointerException,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
    ):
        return state
