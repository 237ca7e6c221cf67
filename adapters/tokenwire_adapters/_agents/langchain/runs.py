"""The tree of runs: LangChain names the parent of a run only when it starts.

The state lives in the module, since LangChain may make a handler for each call, and since two
handlers may see the same run: the first one has it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

from tokenwire._instrument.deferred import when_dropped
from tokenwire.instrument import call_soon
from tokenwire_adapters._agents.calls import Reporter, drop_oldest
from tokenwire_adapters._agents.langchain.call import Call

__all__ = ["Node", "Runs"]


@dataclass(slots=True, eq=False)
class Root:
    """An agent run: everything under one outermost run."""

    id: str
    calls: set[Call] = field(default_factory=set[Call])
    cancelled: Exception | None = None  # by a watcher: no more models are called for it


class Node:
    """A run that is going on: a chain, a graph, a tool or a model."""

    __slots__ = ("parent", "root")

    def __init__(self, run_id: UUID, parent: Node | None) -> None:
        self.parent = parent
        self.root: Root = parent.root if parent is not None else Root(str(run_id))

    def is_within(self, other: Node) -> bool:
        """Whether this is `other`, or below it."""
        node: Node | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False


class Runs:
    """The runs and the models' calls that are going on in this process."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.calls: dict[int, Call] = {}
        self.nodes: dict[int, Node] = {}
        self._lock = threading.Lock()

    def enter(self, run_id: UUID, parent_id: UUID | None) -> Node:
        """Enter a run that starts; idempotent."""
        with self._lock:
            node = self.nodes.get(run_id.int)
            if node is None:
                parent = None if parent_id is None else self.nodes.get(parent_id.int)
                node = self.nodes[run_id.int] = Node(run_id, parent)
                drop_oldest(self.nodes)
            return node

    def leave(self, run_id: UUID) -> Node | None:
        """Remove a run that has ended."""
        with self._lock:
            return self.nodes.pop(run_id.int, None)

    def add(self, run_id: UUID, call: Call) -> None:
        """Enter a call; the oldest is cancelled where too many never ended."""
        with self._lock:
            self.calls[run_id.int] = call
            call.node.root.calls.add(call)
            dropped: Call | None = drop_oldest(self.calls)
        if dropped is not None:
            dropped.node.root.calls.discard(dropped)
            if dropped.model is not None:
                dropped.model.cancel("too many calls are open")
        # No callback may come for a call that is cancelled. Whoever waits for it holds its id.
        when_dropped(run_id, partial(self._on_dropped, run_id.int))

    def _on_dropped(self, key: int) -> None:
        """Nothing holds the id of a run any more, so no callback can come for it.

        A finalizer: it may run in the middle of anything, and must wait for no lock.
        """
        call = self.remove(key)
        if call is None:
            return
        call.unsuppress()
        model = call.model
        if model is not None and model.writer is not None:
            try:
                call_soon(model.sink, model.cancel)
            except Exception as error:
                self._reporter.report(error)
        elif model is not None:
            # A layer below that writes ends the response itself. Its call need not even be this
            # one: what ran in this context since may have found the claim.
            model.withdraw()

    def remove(self, key: int) -> Call | None:
        """Remove a call. Takes no lock: finalizers call it, from wherever they run."""
        call = self.calls.pop(key, None)
        if call is not None:
            call.node.root.calls.discard(call)
        self.nodes.pop(key, None)
        return call

    def calls_within(self, node: Node) -> list[Call]:
        """The calls that are going on within a run."""
        return [call for call in list(node.root.calls) if call.node.is_within(node)]
