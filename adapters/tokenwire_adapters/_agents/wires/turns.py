"""What the readers of sessions have in common: a session has many turns, each a response."""

from __future__ import annotations

from tokenwire import ResponseWriter

__all__ = ["forget_ended"]


def forget_ended(writers: dict[int, ResponseWriter]) -> None:
    """Remove the writers of turns that have ended, since a session may have thousands.

    The last one stays: a recorder gives an id of its own to every response but the first.
    """
    for number in [number for number, writer in writers.items() if writer.ended][:-1]:
        del writers[number]
