"""What an agent is called with."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import HTTPConnection

from tokenwire.sink import Sink
from tokenwire.writer import ResponseWriter
from tokenwire_adapters._web.ui.state import METADATA

__all__ = ["Turn"]


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A request to an agent, from whichever protocol; `ChatTurn` and `AgentTurn` extend it.

    Code of the agent that names no channel writes into the conversation's: wrapped clients of
    OpenAI or Anthropic, LangChain and LlamaIndex with their handlers, ``sink.respond()``. An agent
    without any of these writes into `response`.

    :ivar channel: of the conversation.
    :ivar run: the id of the run, which all responses of this turn have.
    :ivar messages: of the conversation, as the page sent them.
    :ivar response: the envelope of the run; it ends when the agent does.
    :ivar connection: the request, as Starlette has it.
    :ivar principal: the user, as `authorize` or the token names them.
    """

    channel: str
    run: str
    messages: list[dict[str, Any]]
    sink: Sink
    response: ResponseWriter
    connection: HTTPConnection
    principal: str | None = None

    @staticmethod
    def text_of(message: dict[str, Any]) -> str:
        """The text of a message of the protocol."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """The text of the last message of the user."""
        for message in reversed(self.messages):
            if message["role"] == "user":
                return self.text_of(message)
        return ""

    @property
    def cancelled(self) -> bool:
        """Whether the user has stopped the run; for agents that run in a thread."""
        return self.response.cancelled

    def data(self, name: str, data: Any, *, id: str | None = None, transient: bool = False) -> None:
        """Show pages data of your own, such as how far the agent has come.

        :param data: anything JSON can hold.
        :param id: data of the same name and id takes the place of what was there.
        :param transient: for the pages that watch now: no part of the message, nor kept.
        """
        if transient:
            self.sink.send_event(self.channel, name, data, run=self.run, transient=True)
        else:
            self.response.part("data", name=name, call_id=id, data=data)

    def metadata(self, metadata: dict[str, Any]) -> None:
        """Add fields to the metadata of the message that this turn becomes."""
        self.response.part(METADATA, data=metadata)

    def tool_result(self, call_id: str, output: Any = None, *, error: str | None = None) -> None:
        """Publish the result of a tool call of the agent.

        :param output: anything JSON can hold.
        :param error: what went wrong, in place of an output.
        """
        self.response.tool_result(call_id, output, error=error)
