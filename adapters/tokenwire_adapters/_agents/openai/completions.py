"""Text completions, the API before Chat Completions, which many servers still speak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenwire.instrument import Options
from tokenwire_adapters._agents.openai.chat import ChatRecorder, ChoiceState
from tokenwire_adapters._agents.values import list_of, str_of

__all__ = ["CompletionRecorder"]


class CompletionRecorder(ChatRecorder):
    """Reads ``text_completion`` objects, which are chunks and whole replies alike.

    Each choice, of each prompt, is a response of its own; they share a run.
    https://platform.openai.com/docs/api-reference/completions
    """

    api = "completions"

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        prompts = list_of(self.request.get("prompt"))
        if not all(isinstance(token, int) for token in prompts):  # else one prompt, in tokens
            self._expected *= len(prompts)

    def read(self, item: Any) -> None:
        choices = getattr(item, "choices", None)
        if type(choices) is not list:
            self._read_error(item)
        for choice in list_of(choices):
            state = self._choice(getattr(choice, "index", None))
            text = str_of(getattr(choice, "text", None))
            if text:
                state.write(text)
            self._end_choice(state, choice, item)
        self._count(item)

    def _whole_choice(self, state: ChoiceState, choice: Any) -> None:
        text = str_of(getattr(choice, "text", None))
        if text:
            state.write(text)
