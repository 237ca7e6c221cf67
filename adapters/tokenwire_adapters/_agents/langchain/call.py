"""One call of a model, as LangChain's callbacks see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenwire.claims import Claim, set_claim
from tokenwire_adapters._agents.calls import UNKNOWN_REASON, ModelCall, ToolCalls
from tokenwire_adapters._agents.langchain import content

if TYPE_CHECKING:
    from tokenwire_adapters._agents.langchain.runs import Node

__all__ = ["Call"]


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
