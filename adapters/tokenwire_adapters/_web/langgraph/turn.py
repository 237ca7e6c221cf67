"""What an agent of a thread is called with."""

from __future__ import annotations

from typing import Any

from tokenwire_adapters._web.gateway.problems import Problem
from tokenwire_adapters._web.langgraph.requests import chat_message, messages_in, text_of
from tokenwire_adapters._web.langgraph.threads import Thread
from tokenwire_adapters._web.ui.calls import answered_calls
from tokenwire_adapters._web.ui.json import object_of
from tokenwire_adapters._web.ui.turn import Turn

__all__ = ["Beginning", "LangGraphTurn"]


class LangGraphTurn(Turn, frozen=True, kw_only=True):
    """A run of a thread; see `Turn` for the rest of its fields.

    :ivar thread_id: the id of the thread in the client; `channel` is where it is published.
    :ivar messages: those of the thread up to here, as LangChain's clients have them.
    :ivar input: of the run, as the client sent it; `config` likewise.
    """

    thread_id: str
    input: Any
    config: dict[str, Any]

    @staticmethod
    def text_of(message: dict[str, Any]) -> str:
        """The text of a message."""
        return text_of(message)

    @property
    def text(self) -> str:
        """The text of the last message of the user."""
        texts = [text_of(one) for one in self.messages if one["type"] == "human"]
        return texts[-1] if texts else ""

    def values(self, **values: Any) -> None:
        """Put values into the state of the thread, beside its messages."""
        self.response.data_part("state", values)

    def chat_messages(self) -> list[dict[str, Any]]:
        """The conversation for OpenAI's Chat Completions (and for what takes its messages).

        Tool calls without an answer, which providers refuse, are left out; but for those that were
        approved or denied before this turn (`answered`), which the agent is about to answer.
        """
        messages = [chat_message(message) for message in self.messages]
        return answered_calls(messages, [one.request.call_id for one in self.answered])


class Beginning:
    """What a run begins with.

    :ivar asked: the messages that it answers.
    :ivar parent: the checkpoint that it begins at.
    :ivar messages: those of the thread there, and those that it answers.
    :raises Problem: where the thread has no such checkpoint, or the input no valid messages.
    """

    def __init__(self, thread: Thread, body: dict[str, Any]) -> None:
        self.thread = thread
        self.body = body
        self.parent = thread.head
        configurable = object_of(object_of(body.get("config")).get("configurable"))
        for fields in (object_of(body.get("checkpoint")), body, configurable):
            name = fields.get("checkpoint_id")
            if isinstance(name, str):
                if not thread.has(name):
                    raise Problem("invalid", "the thread has no such checkpoint", status=404)
                self.parent = name
                break
        self.asked = messages_in(body.get("input"))
        self.messages = [*thread.messages(self.parent), *self.asked]
