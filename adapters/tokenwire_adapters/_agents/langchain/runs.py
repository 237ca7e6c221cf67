"""The tree of runs and the calls of models in it: LangChain names a parent only when a run starts.

The state lives in the module, since LangChain may make a handler for each call, and since two
handlers may see the same run: the first one has it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from tokenwire._instrument.deferred import when_dropped
from tokenwire.claims import Claim, set_claim
from tokenwire.instrument import call_soon
from tokenwire_adapters._agents.calls import (
    UNKNOWN_REASON,
    ModelCall,
    Reporter,
    ToolCalls,
    drop_oldest,
)
from tokenwire_adapters._agents.langchain import content

__all__ = ["Call", "Node", "Runs"]


@dataclass(slots=True, eq=False)
class Root:
    """An agent run: everything under one outermost run."""

    id: str
    calls: set[Call] = field(default_factory=set["Call"])
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


@dataclass(slots=True, eq=False)
class Call:
    """A call of a model that is going on."""

    owner: object  # the handler that publishes it
    node: Node
    model: ModelCall | None = None  # None where the call is not published
    suppressed: Claim | None = None  # the claim that keeps layers below from publishing it
    source: str = ""  # which of LangChain's two kinds of events its text is taken from

    def suppress(self) -> None:
        """Keep layers below from publishing the call; this one does, if it is to be published."""
        if self.model is not None:
            self.model.open()
        self.suppressed = Claim()
        self.suppressed.suppress(self.owner)
        set_claim(self.suppressed)

    def unsuppress(self) -> None:
        """Let layers below publish again: the call is over."""
        if self.suppressed is not None:
            self.suppressed.close()

    def write_token(self, model: ModelCall, token: object, chunk: Any) -> None:
        """Write what `on_llm_new_token` was called with."""
        parts = model.parts or model.open()
        if parts is None or self.source == "events":
            return
        message = None if chunk is None else getattr(chunk, "message", None)
        if message is not None:
            if content.write_chunk(parts, message):
                self.source = "tokens"
        elif token and isinstance(token, str):
            self.source = "tokens"
            parts.text("text", token)

    def write_event(self, model: ModelCall, event: Any) -> None:
        """Write what `on_stream_event` was called with.

        Most models pass the same tokens to `on_llm_new_token`, and do so first.
        """
        if self.source == "tokens":
            return
        parts = model.parts or model.open()
        if parts is not None and content.write_event(parts, event):
            self.source = "events"

    def finish(self, model: ModelCall, response: Any, tool_calls: ToolCalls) -> bool:
        """End the call well, and enter the tool calls in it; say whether a watcher cancelled it."""
        generations: Any = response.generations[0] if response.generations else []
        generation: Any = generations[0] if generations else None
        if not self.source:  # nothing was streamed
            content.write_choices(model, generations)
        for call_id, name, _ in content.tool_calls(generation):
            tool_calls.add(model, call_id, name)
        cancelled = model.cancelled
        usage = content.usage(generation, response.llm_output)
        reason = content.finish_reason(generation) or (UNKNOWN_REASON if self.source else None)
        model.finish(reason, usage)
        return cancelled


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
