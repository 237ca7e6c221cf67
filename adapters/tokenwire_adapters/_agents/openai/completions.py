"""Text completions, the API before Chat Completions, which many servers still speak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokenwire.instrument import Options
from tokenwire_adapters._agents.openai.chat import ChatRecorder
from tokenwire_adapters._agents.stainless.recorder import to_json

__all__ = ["CompletionRecorder"]


class CompletionRecorder(ChatRecorder):
    """Reads ``text_completion`` objects, which are chunks and whole replies alike.

    Each choice, of each prompt, is a response of its own; they share a run.
    https://platform.openai.com/docs/api-reference/completions
    """

    api = "completions"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        prompt = self.request.get("prompt")
        prompts = cast("list[Any]", prompt) if isinstance(prompt, list) else []
        if not all(isinstance(token, int) for token in prompts):  # else one prompt, in tokens
            self._expected *= len(prompts)

    def feed(self, item: Any) -> None:
        for choice in item.choices or ():
            state = self._choices.get(choice.index) or self._choice(choice.index)
            if choice.text:
                state.write(choice.text)
            if choice.finish_reason:
                self._finish(state, choice.finish_reason, item)
        self._count(item)

    def feed_reply(self, reply: Any) -> None:
        self._usage = to_json(reply.usage) if reply.usage is not None else None
        for choice in reply.choices or ():
            state = self._choice(choice.index)
            if choice.text:
                state.write(choice.text)
            state.finish = choice.finish_reason
