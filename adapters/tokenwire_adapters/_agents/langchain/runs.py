"""Which run belongs to which: LangChain names the parent of a run only when it starts.

The state lives in the module, since LangChain may make a handler for each call, and since two
handlers may see the same run: the first one has it.
"""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

from tokenwire.context import Claim
from tokenwire_adapters._agents.calls import MAX_CALLS, ModelCall

__all__ = ["Call", "Node", "Runs"]


class Root:
    """An agent run: everything under one outermost run.

    :ivar cancelled: what a watcher cancelled; no more models are called for it.
    """

    __slots__ = ("calls", "cancelled", "id")

    def __init__(self, run_id: UUID) -> None:
        self.id = str(run_id)
        self.calls: set[Call] = set()
        self.cancelled: Exception | None = None


class Node:
    """A run that is going on: a chain, a graph, a tool or a model."""

    __slots__ = ("parent", "root")

    def __init__(self, run_id: UUID, parent: Node | None) -> None:
        self.parent = parent
        self.root: Root = parent.root if parent is not None else Root(run_id)

    def under(self, other: Node) -> bool:
        """Whether this is `other`, or within it."""
        node: Node | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False


class Call:
    """A call of a model that is going on.

    :ivar owner: the handler that has it.
    :ivar model: None where the call is not to be shown.
    :ivar reserved: the claim that keeps layers below from showing it.
    :ivar source: which of LangChain's two kinds of events its text is taken from.
    """

    __slots__ = ("model", "node", "owner", "source", "suppressed")

    def __init__(self, owner: object, node: Node, model: ModelCall | None) -> None:
        self.owner = owner
        self.node = node
        self.model = model
        self.suppressed: Claim | None = None
        self.source = ""


class Runs:
    """Everything that is going on in this process."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self.nodes: dict[int, Node] = {}
        self.tools: dict[int, tuple[object, str]] = {}
        self._lock = threading.Lock()

    def enter(self, run_id: UUID, parent_id: UUID | None) -> Node:
        """Note that a run starts; twice is once."""
        with self._lock:
            node = self.nodes.get(run_id.int)
            if node is None:
                parent = None if parent_id is None else self.nodes.get(parent_id.int)
                node = self.nodes[run_id.int] = Node(run_id, parent)
                _bound(self.nodes)
            return node

    def leave(self, run_id: UUID) -> Node | None:
        """Note that a run is over."""
        with self._lock:
            return self.nodes.pop(run_id.int, None)

    def add(self, key: int, call: Call) -> Call | None:
        """Note a call; return one that was dropped, because too many never ended."""
        with self._lock:
            self.calls[key] = call
            call.node.root.calls.add(call)
            dropped: Call | None = _bound(self.calls)
            if dropped is not None:
                dropped.node.root.calls.discard(dropped)
            return dropped

    def remove(self, key: int) -> Call | None:
        """Let go of a call. Takes no lock: finalizers come here, from wherever they run."""
        call = self.calls.pop(key, None)
        if call is not None:
            call.node.root.calls.discard(call)
        self.nodes.pop(key, None)
        return call

    def under(self, node: Node) -> list[Call]:
        """The calls that are going on within a run."""
        return [call for call in list(node.root.calls) if call.node.under(node)]

    def start_tool(self, run_id: UUID, owner: object, call_id: str) -> None:
        """Note which tool call a tool runs for."""
        with self._lock:
            if self.tools.setdefault(run_id.int, (owner, call_id))[0] is owner:
                _bound(self.tools)

    def end_tool(self, run_id: UUID, owner: object) -> str | None:
        """The tool call that the tool ran for; None where another handler tells of it."""
        with self._lock:
            tool = self.tools.get(run_id.int)
            if tool is None or tool[0] is not owner:
                return None
            del self.tools[run_id.int]
            return tool[1]


def _bound(table: dict[int, Any]) -> Any:
    """Drop the oldest entry of a table that has grown too large."""
    while len(table) > MAX_CALLS:
        try:
            return table.pop(next(iter(table)))
        except (KeyError, RuntimeError):  # something was let go of at this very moment
            continue
    return None
