"""What an agent is called with."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import HTTPConnection

from tokenwire.sink import Sink
from tokenwire.writer import ResponseWriter

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

    def tool_result(self, call_id: str, output: Any = None, *, error: str | None = None) -> None:
        """Publish the result of a tool call of the agent.

        :param output: anything JSON can hold.
        :param error: what went wrong, in place of an output.
        """
        self.response.tool_result(call_id, output, error=error)
