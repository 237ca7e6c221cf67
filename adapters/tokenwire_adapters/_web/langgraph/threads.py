"""A thread: the conversation of a channel, with a checkpoint before and after each run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tokenwire.approvals import ApprovalRequest
from tokenwire.events import SnapshotEvent
from tokenwire_adapters._web.langgraph.encoder import RunReader
from tokenwire_adapters._web.langgraph.messages import interrupt_of
from tokenwire_adapters._web.ui.errors import OnError, safe_error, shown_error
from tokenwire_adapters._web.ui.json import list_of, object_of
from tokenwire_adapters._web.ui.runs import Run

__all__ = ["ASKED", "PARENT", "Thread", "input_of"]

ASKED = "langgraph_messages"
"""The metadata field with the messages that a run answers."""

PARENT = "langgraph_checkpoint"
"""The metadata field with the checkpoint that a run begins at."""

_INPUT = ".input"
_START = ".start"  # the checkpoint before the first run: without it, nobody could edit that


def input_of(run: str) -> str:
    """The checkpoint with the messages that a run answers."""
    return f"{run}{_INPUT}"


class Thread:
    """The states of a thread, from the runs that are kept, oldest first.

    A run has two checkpoints: ``RUN.input``, with the messages that it answers, and ``RUN``, with
    what it has said. The first one follows the checkpoint that the run was begun at.
    """

    def __init__(self, thread_id: str, runs: Sequence[Run], on_error: OnError = safe_error) -> None:
        self.id = thread_id
        self.on_error = on_error
        self.runs = {run.id: run for run in runs}

    @property
    def last(self) -> Run | None:
        """The newest run."""
        return next(reversed(self.runs.values()), None)

    @property
    def questions(self) -> list[ApprovalRequest]:
        """What the newest run waits for."""
        return [] if self.last is None else self.last.questions

    @property
    def head(self) -> str | None:
        """The newest checkpoint."""
        return None if self.last is None else self.last.id

    def has(self, checkpoint: str) -> bool:
        """Whether there is such a checkpoint."""
        return checkpoint == _START or checkpoint.removesuffix(_INPUT) in self.runs

    def parent_of(self, checkpoint: str) -> str | None:
        """The checkpoint before this one."""
        if checkpoint == _START:
            return None
        if not checkpoint.endswith(_INPUT):
            return input_of(checkpoint)
        run = self.runs[checkpoint.removesuffix(_INPUT)]
        if PARENT in run.metadata:
            parent = run.metadata[PARENT]
            return parent if isinstance(parent, str) and self.has(parent) else _START
        earlier = list(self.runs)
        place = earlier.index(run.id)
        return earlier[place - 1] if place else _START

    def messages(self, checkpoint: str | None) -> list[dict[str, Any]]:
        """The messages at a checkpoint."""
        chain: list[str] = []
        while checkpoint is not None and checkpoint not in (_START, *chain):
            chain.append(checkpoint)
            checkpoint = self.parent_of(checkpoint)
        by_id: dict[str, dict[str, Any]] = {}
        for step in reversed(chain):
            run = self.runs[step.removesuffix(_INPUT)]
            begins = step.endswith(_INPUT)
            added = list_of(run.metadata.get(ASKED)) if begins else self._said_by(run)
            by_id.update((message["id"], message) for message in added)
        return list(by_id.values())

    def _said_by(self, run: Run) -> list[dict[str, Any]]:
        """The messages that a run has produced so far."""
        reader = RunReader(run=run.id, enveloped=run.envelope is not None)
        reader.on_error = self.on_error
        reader.prime([SnapshotEvent(response=response) for response in run.responses])
        list(reader.begin())
        return reader.said.all()

    def before(self, run: str) -> list[dict[str, Any]]:
        """The messages that a run begins with, those that it answers among them."""
        return self.messages(input_of(run))

    def values_before(self, run: str | None = None) -> dict[str, Any]:
        """What the runs before one, by default all, have put into the state, without messages."""
        values: dict[str, Any] = {}
        for other in self.runs.values():
            if other.id == run:
                break
            values |= values_of(other)
        return values

    def state(self, checkpoint: str | None) -> dict[str, Any]:
        """The state at a checkpoint, as a client reads it."""
        run = None if checkpoint is None else self.runs[checkpoint.removesuffix(_INPUT)]
        current = run is not None and checkpoint == self.head
        interrupts = [interrupt_of(one) for one in run.questions] if run and current else []
        running = run is not None and current and run.streaming
        error = None
        if run is not None and current and run.state in ("failed", "abandoned"):
            text = (run.envelope or run.responses[-1]).error or run.state
            error = shown_error(text, self.on_error, f"run {run.id!r}")
        task: dict[str, Any] = {
            "id": f"{checkpoint}",
            "name": "agent",
            "path": [],
            "interrupts": interrupts,
            "checkpoint": None,
            "state": None,
            "result": None,
            "error": error,
        }
        values = {**self.values_before(), "messages": self.messages(checkpoint)}
        parent = None if checkpoint is None else self.parent_of(checkpoint)
        return {
            "values": {} if checkpoint is None else values,
            "next": ["agent"] if running or interrupts else [],
            "tasks": [task] if running or interrupts or error else [],
            "interrupts": interrupts,
            "checkpoint": self._reference(checkpoint),
            "parent_checkpoint": self._reference(parent),
            "metadata": {},
            "created_at": _iso(None if run is None else run.started_at),
        }

    def _reference(self, checkpoint: str | None) -> dict[str, Any] | None:
        if checkpoint is None:
            return None
        return {"thread_id": self.id, "checkpoint_ns": "", "checkpoint_id": checkpoint}

    def history(self, limit: int) -> list[dict[str, Any]]:
        """The states of all branches, newest first."""
        names = [name for run in self.runs for name in (input_of(run), run)]
        return [self.state(name) for name in list(reversed(names))[:limit]]


def values_of(run: Run) -> dict[str, Any]:
    """What a run has put into the state of its thread, the messages aside."""
    values: dict[str, Any] = {}
    for response in run.responses:
        for part in response.parts:
            if part.kind == "data" and part.name == "state":
                values |= object_of(part.data)
    values.pop("messages", None)
    return values


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
