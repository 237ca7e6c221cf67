"""Patches Claude's agent SDK where it hands on messages."""

from __future__ import annotations

import functools
import importlib
from collections.abc import AsyncIterator
from typing import Any

from tokenwire._instrument.hang_up import attempt
from tokenwire.instrument import SdkInstrumentor, record
from tokenwire_adapters._agents.claude_agent.messages import ClaudeAgentRecorder
from tokenwire_adapters._agents.claude_agent.quirks import query_owner

__all__ = ["ClaudeAgentInstrumentor"]


class ClaudeAgentInstrumentor(SdkInstrumentor):
    """Records `claude_agent_sdk.query`, and what a `ClaudeSDKClient` receives."""

    module = "claude_agent_sdk"

    def patch(self) -> None:
        sdk = importlib.import_module(self.module)
        self.patches.replace(query_owner(), "process_query", self._querying)
        self.patches.replace(sdk.ClaudeSDKClient, "receive_messages", self._receiving)

    def _recorder(self, client: Any, model: Any) -> ClaudeAgentRecorder | None:
        return self.recorder(ClaudeAgentRecorder, {"model": model}, client)

    def _querying(self, original: Any) -> Any:
        def process_query(owner: Any, *args: Any, **kwargs: Any) -> Any:
            messages: AsyncIterator[Any] = original(owner, *args, **kwargs)
            recorder = self._recorder(None, getattr(kwargs.get("options"), "model", None))
            return messages if recorder is None else record(messages, recorder)

        return process_query

    def _receiving(self, original: Any) -> Any:
        def receive_messages(client: Any) -> Any:
            messages = original(client)
            recorder = self._recorder(client, getattr(client.options, "model", None))
            return messages if recorder is None else _received(client, messages, recorder)

        return receive_messages


async def _received(
    client: Any, messages: AsyncIterator[Any], recorder: ClaudeAgentRecorder
) -> AsyncIterator[Any]:
    """Yield a client's messages; a watcher's cancel interrupts the turn, and the loop goes on.

    Were the loop to end, what is left of the turn would be taken for the beginning of the next.
    """
    recorder.use_running_loop()
    recorder.bind(client, functools.partial(_interrupt, recorder))
    try:
        async for message in messages:
            try:
                recorder.feed(message)
            except Exception as error:
                recorder.give_up(error)
            yield message
    except Exception as error:
        recorder.fail(error)
        raise
    finally:
        recorder.close()


def _interrupt(recorder: ClaudeAgentRecorder, client: Any) -> None:
    loop = recorder.loop
    if loop is not None:
        loop.call_soon_threadsafe(attempt, loop, client.interrupt, "cannot interrupt an agent")
