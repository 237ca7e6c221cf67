"""What an agent is called with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import HTTPConnection

from tokenwire import approvals
from tokenwire.approvals import Approval, ApprovalRequest
from tokenwire.sink import Sink
from tokenwire.writer import ResponseWriter
from tokenwire_adapters._web.ui.state import METADATA

__all__ = ["Turn"]


class _Question:
    """What an agent asks.

    :ivar request: once it has been asked.
    """

    request: ApprovalRequest

    def __init__(self, tool: str, input: Any, call_id: str | None, message: str | None) -> None:
        self._tool = tool
        self._input = input
        self._call_id = call_id
        self._message = message

    def ask(self, response: ResponseWriter, *, more: bool = False) -> None:
        self.request = approvals.ask(
            response,
            self._tool,
            self._input,
            call_id=self._call_id,
            message=self._message,
            more=more,
        )


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
    :ivar answered: decisions that this turn was begun to act on, since the agent that asked for
        them was gone when somebody answered.
    """

    channel: str
    run: str
    messages: list[dict[str, Any]]
    sink: Sink
    response: ResponseWriter
    connection: HTTPConnection
    principal: str | None = None
    answered: Sequence[Approval] = ()
    _questions: list[_Question] = msgspec.field(default_factory=list["_Question"])
    _acted_on: set[str] = msgspec.field(default_factory=set[str])

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
        for approval in self.answered:
            if approval.request.call_id == call_id:  # a call of the run before this one
                before = approval.response_id
                self.sink.tool_result(
                    self.channel, call_id, output, response_id=before, error=error
                )
                return
        self.response.tool_result(call_id, output, error=error)

    async def approve(
        self,
        tool: str,
        input: Any = None,
        *,
        call_id: str | None = None,
        message: str | None = None,
    ) -> Approval:
        """Ask the user whether a tool may be called, and wait for the answer.

        Every page of the conversation shows the question, and the first answer counts. Meanwhile
        pages may be closed and opened. If this process ends before the answer comes, the
        answer begins the agent again, and what was asked for then (the same tool with the same
        input) is decided: see `answered`.

        :param input: what the tool will be called with.
        :param call_id: of the model's tool call; without it, one is shown for this tool and input.
        :param message: for the user.
        :raises ResponseCancelled: when the user stops the run instead.
        """
        decided = self._decided(tool, input, call_id)
        if decided is not None:
            return decided
        question = _Question(tool, input, call_id, message)
        self._questions.append(question)
        await asyncio.sleep(0)  # what the agent asks at the same time is shown at the same time
        questions = self._questions.copy()
        self._questions.clear()
        for asked in questions:
            asked.ask(self.response, more=asked is not questions[-1])
        return await approvals.await_decision(self.sink, self.response, question.request)

    def approve_blocking(
        self,
        tool: str,
        input: Any = None,
        *,
        call_id: str | None = None,
        message: str | None = None,
    ) -> Approval:
        """Do what `approve` does, for an agent that runs in a thread."""
        decided = self._decided(tool, input, call_id)
        if decided is not None:
            return decided
        question = _Question(tool, input, call_id, message)
        question.ask(self.response)
        return approvals.wait_for_decision(self.sink, self.response, question.request)

    def _decided(self, tool: str, input: Any, call_id: str | None) -> Approval | None:
        """What was decided on this before this turn began."""
        plain = msgspec.to_builtins(input, enc_hook=str)
        for approval in self.answered:
            request = approval.request
            same_call = call_id is not None and request.call_id == call_id
            same = same_call or (request.tool == tool and request.input == plain)
            if same and approval.id not in self._acted_on:
                self._acted_on.add(approval.id)  # once: the same call again is asked for anew
                return approval
        return None
