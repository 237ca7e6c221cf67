"""Conversations as AG-UI has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from tokenwire.events import SnapshotEvent
from tokenwire_adapters._web.ag_ui.encoder import AgUiEncoder
from tokenwire_adapters._web.ui.errors import OnError, safe_error
from tokenwire_adapters._web.ui.json import list_of, newest_of
from tokenwire_adapters._web.ui.runs import Run

__all__ = ["asked_by", "conversation", "merged", "messages_of", "place_of"]

ASKED = "ag_ui_messages"
"""The metadata field with the messages that a run answers."""

AFTER = "ag_ui_after"
"""The metadata field with the id of the message before those that a run answers."""


def messages_of(run: Run, on_error: OnError = safe_error) -> list[dict[str, Any]]:
    """The messages that a run has produced so far."""
    encoder = AgUiEncoder(run=run.id, enveloped=run.envelope is not None, history=())
    encoder.on_error = on_error
    encoder.prime([SnapshotEvent(response=response) for response in run.responses])
    for frame in encoder.begin():
        event: dict[str, Any] = msgspec.json.decode(frame.data)
        if event["type"] == "MESSAGES_SNAPSHOT":
            return cast("list[dict[str, Any]]", event["messages"])
    return []


def conversation(runs: Sequence[Run], on_error: OnError = safe_error) -> list[dict[str, Any]]:
    """The messages of a thread, from the runs that are kept, oldest first.

    What was answered anew, or edited, counts as it was last.
    """
    messages: dict[str, dict[str, Any]] = {}
    for run in runs:
        asked = list_of(run.metadata.get(ASKED))
        _cut(messages, run, asked)
        for message in [*asked, *messages_of(run, on_error)]:
            messages.setdefault(message["id"], message)
    return list(messages.values())


def _cut(messages: dict[str, dict[str, Any]], run: Run, asked: Sequence[dict[str, Any]]) -> None:
    """Remove what a run takes the place of: what followed the message that it was asked after."""
    names = list(messages)
    first = asked[0]["id"] if asked else None
    after = run.metadata.get(AFTER)
    if first in messages:  # it is answered anew
        kept = names.index(str(first))
    elif after in messages:
        kept = names.index(str(after)) + 1
    else:
        return
    for name in names[kept:]:
        del messages[name]


def merged(
    stored: Sequence[dict[str, Any]], of_client: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The stored messages of a thread, after older ones that only the client has."""
    known = {message["id"] for message in stored}
    return [*(message for message in of_client if message.get("id") not in known), *stored]


def place_of(messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The metadata of a run that answers the last of these messages: which, and after which."""
    asked = asked_by(messages)
    before = len(messages) - len(asked)
    after = messages[before - 1].get("id") if before and asked else None
    return {ASKED: asked, **({AFTER: after} if after else {})}


def asked_by(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages that a run is to answer: those after the agent's last one."""
    asked: list[dict[str, Any]] = []
    for message in reversed(messages):
        if message.get("role") in ("assistant", "reasoning", "activity"):
            break
        asked.append(message)
    asked.reverse()
    return newest_of(asked)
