"""Google's Gemini API: ``generateContent`` and ``streamGenerateContent``, also of Vertex AI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from tokenwire.instrument import Options
from tokenwire_adapters._agents.values import (
    fields_of,
    file_content,
    index_of,
    list_of,
    name_of,
    str_of,
    to_json,
)
from tokenwire_adapters._agents.wires.json_path import PartialArguments
from tokenwire_adapters._agents.wires.json_recorder import JsonRecorder

__all__ = ["GeminiRecorder"]

_CODE = "code_execution"


class GeminiRecorder(JsonRecorder):
    """Reads ``GenerateContentResponse`` objects, of which a stream has one for each chunk.

    Each candidate is a response of its own; they share a run. Thoughts are published as
    ``reasoning``; signatures are not published.
    https://ai.google.dev/api/generate-content
    """

    provider = "google"
    api = "generate_content"
    _kinds: ClassVar[tuple[str, ...]] = ("functionCall", "executableCode", "codeExecutionResult")

    def __init__(self, options: Options, request: Mapping[str, Any] | None = None) -> None:
        super().__init__(options, request)
        self._calls: dict[int, PartialArguments] = {}  # by candidate: those that grow
        self._code_runs = 0

    def read(self, item: Any) -> None:
        fields = fields_of(item)
        candidates = list_of(fields.get("candidates"))
        for candidate in candidates:
            self._candidate(fields_of(candidate))
        if not candidates:
            self._blocked(fields_of(fields.get("promptFeedback")))
        self.settle_usage(fields.get("usageMetadata"))

    def flush(self) -> None:
        for index in list(self._calls):
            self._complete_call(index)

    def _candidate(self, candidate: Mapping[str, Any]) -> None:
        index = index_of(candidate.get("index")) or 0  # older models leave it out
        for part in list_of(fields_of(candidate.get("content")).get("parts")):
            self._part(fields_of(part), index)
        self._grounding(candidate, index)
        self.settle_reason(candidate.get("finishReason"), index)

    def _blocked(self, feedback: Mapping[str, Any]) -> None:
        """Take what comes in the place of candidates when a prompt is refused."""
        reason = name_of(feedback.get("blockReason"))
        if reason:
            self.write(feedback.get("blockReasonMessage"), "refusal")
            self.settle_reason(reason)

    def _part(self, part: Mapping[str, Any], index: int) -> None:
        if "text" in part:
            self.write(part["text"], "reasoning" if part.get("thought") is True else "text", index)
        elif "functionCall" in part:
            self._function_call(fields_of(part["functionCall"]), index)
        elif "executableCode" in part:
            self._code(fields_of(part["executableCode"]), index)
        elif "codeExecutionResult" in part:
            self._code_result(fields_of(part["codeExecutionResult"]), index)
        elif "toolCall" in part:
            call = fields_of(part["toolCall"])
            self.tool_call(
                call.get("toolType"),
                call.get("id"),
                call.get("args"),
                index,
                provider_executed=True,
            )
        elif "toolResponse" in part:
            answer = fields_of(part["toolResponse"])
            call_id = name_of(answer.get("id"))
            if call_id:
                output = to_json(answer.get("response"))
                name = name_of(answer.get("toolType")) or None
                self.writer(index).tool_result(call_id, output, name=name)
        elif "inlineData" in part or "fileData" in part:
            self._file(part, index)

    # -- tools

    def _function_call(self, call: Mapping[str, Any], index: int) -> None:
        partial = list_of(call.get("partialArgs"))
        goes_on = call.get("willContinue") is True
        name = name_of(call.get("name"))
        if name and index in self._calls:  # another, whose beginning ends the one before
            self._complete_call(index)
        growing = self._calls.get(index)
        if growing is None:
            if not goes_on and not partial:
                if name:
                    self.tool_call(name, call.get("id"), call.get("args"), index)
                return
            part = self.writer(index).part(
                "tool_call", name=name or None, call_id=name_of(call.get("id")) or None
            )
            growing = self._calls[index] = PartialArguments(part, call.get("args"))
        for piece in partial:
            growing.add(fields_of(piece))
        if not goes_on:
            self._complete_call(index)

    def _complete_call(self, index: int) -> None:
        """Write the arguments of a call that came in pieces, which are no pieces of text."""
        self._calls.pop(index).write()

    def _code(self, code: Mapping[str, Any], index: int) -> None:
        self._code_runs += 1
        call_id = name_of(code.get("id")) or f"{_CODE}-{self._code_runs}"
        self.writer(index).tool_call(
            _CODE, call_id, str_of(code.get("code")), provider_executed=True
        )

    def _code_result(self, result: Mapping[str, Any], index: int) -> None:
        call_id = name_of(result.get("id")) or f"{_CODE}-{self._code_runs}"
        outcome = name_of(result.get("outcome"))
        error = None if outcome in ("", "OUTCOME_OK") else outcome
        output = to_json(result.get("output"))
        self.writer(index).tool_result(call_id, output, name=_CODE, error=error)

    # -- what else there is

    def _file(self, part: Mapping[str, Any], index: int) -> None:
        """Publish a file: its content where that is sent along, or where it is."""
        inline, linked = fields_of(part.get("inlineData")), fields_of(part.get("fileData"))
        media_type = str_of(inline.get("mimeType")) or str_of(linked.get("mimeType"))
        data = {"media_type": media_type or "application/octet-stream"}
        if str_of(linked.get("fileUri")):
            data["url"] = linked["fileUri"]
        data |= file_content(inline.get("data"))
        self.writer(index).part("file", name="inline_data" if inline else "file_data", data=data)

    def _grounding(self, candidate: Mapping[str, Any], index: int) -> None:
        grounding = fields_of(candidate.get("groundingMetadata"))
        for chunk in list_of(grounding.get("groundingChunks")):
            for kind, source in fields_of(chunk).items():
                self._cite(kind, fields_of(source), index)
        context = fields_of(candidate.get("urlContextMetadata"))
        for url in list_of(context.get("urlMetadata")):
            self._cite("url_context", fields_of(url), index)
        cited = fields_of(candidate.get("citationMetadata"))
        for source in list_of(cited.get("citations")) or list_of(cited.get("citationSources")):
            self._cite("citation", fields_of(source), index)

    def _cite(self, kind: str, source: Mapping[str, Any], index: int) -> None:
        if source:
            url = str_of(source.get("uri")) or str_of(source.get("retrievedUrl"))
            self.source({"type": kind, **({"url": url} if url else {}), **source}, index)
