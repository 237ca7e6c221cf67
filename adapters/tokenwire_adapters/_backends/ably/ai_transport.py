"""Publishes a response in the format of ``@ably/ai-transport`` 0.8, for the AI SDK's messages.

It follows Ably's documentation (ai-transport, internals/wire-protocol) and the messages that
its own agent session publishes. AI Transport's headers are in ``extras.ai``, tokenwire's in
``extras.headers``, so that sinks read the same messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tokenwire.backend import Entry
from tokenwire.errors import BackendUnavailable
from tokenwire.events import EndEvent, Part, StartEvent, ToolResultEvent
from tokenwire_adapters._ai_sdk_values import media_of, reason_of, source_of, usage_of
from tokenwire_adapters._backends.ably.message_per_response import PerResponseWriter, SentMessage
from tokenwire_adapters._backends.ably.ownership import TransportInput
from tokenwire_adapters._backends.ably.response_writer import MessageSender
from tokenwire_adapters._backends.ably.wire import byte_size, new_message

__all__ = ["AiTransportWriter", "FindInput"]

FindInput = Callable[[str, object], Awaitable[TransportInput | None]]
"""From a response's id, and ``input`` in its metadata, to the input that it answers."""

_RUN_REASONS = {"complete": "complete", "cancelled": "cancelled"}


class AiTransportWriter(PerResponseWriter):
    """Publishes a response as a run of one step.

    ``ai-run-start`` is the first message, and has no text. Each part is a stream of its own, which
    is closed when a later part begins: pages ignore a closed stream, so Ably must have
    acknowledged all of it before.

    :param find_input: finds the input that the response answers.
    """

    first_message_has_text = False

    def __init__(self, entry: Entry, sender: MessageSender, find_input: FindInput) -> None:
        super().__init__(entry, sender)
        self._find_input = find_input
        self._input: TransportInput | None = None
        self._step: SentMessage | None = None
        self._heartbeat: SentMessage | None = None
        self._chunks: set[int] = set()  # the parts that pages get as a chunk beside the messages
        self._closed: dict[int, str] = {}  # by number of a stream's message: its final status

    # -- headers

    def _run_headers(self) -> dict[str, str]:
        headers = {"run-id": self.id, "invocation-id": f"{self.id}-invocation"}
        if self._input is not None:
            headers["input-codec-message-id"] = self._input.id
            sender = self._input.sender
            if sender is not None:
                headers |= {"run-client-id": sender, "input-client-id": sender}
        return headers

    def _place(self) -> dict[str, str]:
        """Where the run is in the tree of the conversation.

        A question that is asked again is a branch of its own. An answer that is asked for again
        follows the same question as the one before it.
        """
        if self._input is None:
            return {}
        message_id, _, parent, fork_of, regenerates = self._input
        place = {"parent": message_id if regenerates is None or parent is None else parent}
        if fork_of is not None:
            place["fork-of"] = fork_of
        if regenerates is not None:
            place["msg-regenerate"] = regenerates
        return place

    def _step_headers(self) -> dict[str, str]:
        headers = self._run_headers() | {"step-id": f"{self.id}-step-0"}
        if "run-client-id" in headers:
            headers["step-client-id"] = headers["run-client-id"]
        return headers

    def _output_headers(self) -> dict[str, str]:
        headers = self._step_headers()
        headers |= {"role": "assistant", "codec-message-id": f"{self.id}-message"}
        headers |= self._place()
        if self._step is not None and self._step.serial is not None and self._step.serial.done():
            headers["step-start-serial"] = self._step.serial.result()
        return headers

    def _headers(self) -> dict[str, Any]:
        headers = super()._headers()
        if self._input is not None:
            headers["input"] = self._input.id
        return headers

    def _extras(self, sent: SentMessage, end: EndEvent | None) -> dict[str, Any]:
        if sent.extras is not None:
            return sent.extras
        extras = super()._extras(sent, end)
        if sent is self._head:
            extras["ai"] = {"transport": self._run_headers() | self._place()}
        elif sent.part is not None and not self._is_hidden(sent):
            extras["ai"] = self._stream_extras(sent, self._part(sent.part))
        return extras

    def _stream_extras(self, sent: SentMessage, part: Part) -> dict[str, Any]:
        """``extras.ai`` of a message of a part."""
        transport = self._output_headers()
        number = self._sent.index(sent)
        name = f"part-{sent.part}" + (f"-{number}" if sent.base else "")
        if sent.payload is not None:
            transport["stream"] = "false"
            kind = f"data-{part.name or part.kind}"
            return {"transport": transport, "codec": {"kind": kind, "id": f"{self.id}:{sent.part}"}}
        if part.kind == "tool_call":
            name = part.call_id or name
            codec = {"kind": "tool-input", "toolCallId": name, "toolName": part.name or ""}
            if part.provider_executed:
                codec["providerExecuted"] = "true"
        elif part.kind in ("reasoning", "text"):
            codec = {"kind": part.kind, "id": name}
        else:
            codec = {"kind": "text", "id": name}
        status = self._closed.get(number, "streaming")
        transport |= {"stream": "true", "status": status, "stream-id": name}
        return {"transport": transport, "codec": codec}

    def _metadata(self, end: EndEvent | None = None) -> dict[str, Any]:
        """The metadata of the page's message, all of it: the client replaces what it has."""
        metadata: dict[str, Any] = {"run": self.assembler.response.run or self.id}
        if end is not None:
            metadata["state"] = end.state
            usage = usage_of(end.usage)
            if usage:
                metadata["usage"] = usage
        return metadata

    def _chunk_extras(self, kind: str, **codec: str) -> dict[str, Any]:
        """The extras of a message that is one chunk of the AI SDK, and no stream."""
        transport = self._output_headers() | {"stream": "false"}
        return {"ai": {"transport": transport, "codec": {"kind": kind, **codec}}}

    # -- sending

    def _add_message(self, part: int, kind: str, base: int) -> SentMessage:
        sent = super()._add_message(part, kind, base)
        sent.name = "ai-output"
        return sent

    def _add_payload(self, index: int, part: Part) -> list[tuple[SentMessage, str]]:
        chunk = self._content_chunk(index, part)
        if chunk is not None or byte_size(part.data) > self._sender.max_text:
            self._chunks.add(index)  # its messages are for tokenwire's watchers alone
            work = super()._add_payload(index, part)
            for sent, _ in work:
                sent.name = part.kind
            return [*work, (chunk, "")] if chunk is not None else work
        sent = self._add_message(index, part.kind, 0)
        sent.payload = (part.data, {"payload": "raw"})
        sent.closed = True
        return [(sent, "")]

    def _is_hidden(self, sent: SentMessage) -> bool:
        """Whether a message is for tokenwire's watchers alone."""
        return sent.payload is not None and sent.part in self._chunks

    def _content_chunk(self, index: int, part: Part) -> SentMessage | None:
        """The message by which pages get a source or a file; None for anything else."""
        tag = f"{self.id}:{index}"
        if part.kind == "source":
            kind, codec, data = _source_chunk(tag, part.data)
        elif part.kind == "file" and (media := media_of(part.data)) is not None:
            kind, codec, data = "file", {"mediaType": media[1]}, media[0]
        else:
            return None
        if byte_size(data) > self._sender.max_text:
            return None
        chunk = self._add_fixed("ai-output", self._chunk_extras(kind, **codec))
        chunk.payload = (data, {})
        return chunk

    def _begin(self, entry: Entry) -> None:
        super()._begin(entry)
        self._head.name = "ai-run-start"

    async def _send_missing(
        self, channel: Any, entry: Entry, tasks: list[asyncio.Task[Any]]
    ) -> list[asyncio.Task[Any]]:
        tasks += await self._open_run(channel, entry)
        results = self._new_results()
        for sent, text in self._plan():
            if sent.serial is None and sent.part is not None:
                tasks += await self._close_streams(channel, up_to=sent.part)
                if sent.payload is None and text:
                    # AI Transport reads the data of appends, not the data with which a stream is
                    # published.
                    tasks.append(await self._write(channel, sent, "", None))
            if sent.closed and sent.payload is None and text == "":
                continue
            tasks.append(await self._write(channel, sent, text, None))
        if results:
            calls = {result.call_id for result in results}
            tasks += await self._close_streams(channel, calls=calls)
            tasks += await self._send_results(channel, results)
        end = self._end_to_send(entry)
        if end is not None:
            status = "cancelled" if end.state in ("cancelled", "abandoned") else "complete"
            tasks += await self._close_streams(channel, status=status)
            await self._wait_for(tasks)
            return [await self._close_run(channel, end)]
        return tasks

    async def _open_run(self, channel: Any, entry: Entry) -> list[asyncio.Task[Any]]:
        """Begin the run and its step, and wait for the step's serial."""
        tasks: list[asyncio.Task[Any]] = []
        if self._head.serial is None:
            start = entry.events[0]
            input_id = start.metadata.get("input") if isinstance(start, StartEvent) else None
            self._input = await self._find_input(self.id, input_id)
            tasks.append(await self._write(channel, self._head, "", None))
        if self._step is None:
            extras = {"ai": {"transport": self._step_headers()}}
            self._step = self._add_fixed("ai-step-start", extras)
        if self._step.serial is None:
            tasks.append(await self._write(channel, self._step, "", None))
            await self._serial(self._step)
            run = _json(messageMetadata=self._metadata())
            for kind, codec in (("start", {"messageId": self.id, **run}), ("start-step", {})):
                chunk = self._add_fixed("ai-output", self._chunk_extras(kind, **codec))
                tasks.append(await self._write(channel, chunk, "", None))
        await self._serial(self._step)
        return tasks

    def _add_fixed(self, name: str, extras: dict[str, Any]) -> SentMessage:
        """Add a message that never changes."""
        sent = SentMessage(f"{self.fence}-{len(self._sent)}", name, None, 0)
        sent.extras = extras
        self._sent.append(sent)
        return sent

    async def _close_streams(
        self,
        channel: Any,
        *,
        up_to: int | None = None,
        calls: set[str] | None = None,
        status: str = "complete",
    ) -> list[asyncio.Task[Any]]:
        """Close the open streams.

        :param up_to: only those of the parts up to this one.
        :param calls: only those of the tool calls with these ids.
        """
        tasks: list[asyncio.Task[Any]] = []
        for number, sent in enumerate(self._sent):
            if sent.part is None or sent.payload is not None or sent.serial is None:
                continue
            if number in self._closed or (up_to is not None and sent.part > up_to):
                continue
            part = self._part(sent.part)
            if calls is not None and (part.kind != "tool_call" or part.call_id not in calls):
                continue
            if sent.last is not None:
                await asyncio.wait([sent.last])
            if sent.suspect:
                raise BackendUnavailable("a stream must be repaired before it is closed")
            self._closed[number] = status
            sent.closed = True
            tasks.append(await self._write(channel, sent, "", None))
        return tasks

    async def _close_run(self, channel: Any, end: EndEvent) -> asyncio.Task[Any]:
        reason = _RUN_REASONS.get(end.state, "error")
        fields: list[tuple[str, dict[str, Any]]] = []
        metadata = _json(messageMetadata=self._metadata(end))
        if end.state == "complete":
            finish = reason_of(end.finish_reason)
            fields.append(("ai-output", self._chunk_extras("finish-step")))
            extras = self._chunk_extras("finish", finishReason=finish, **metadata)
            fields.append(("ai-output", extras))
        else:
            fields.append(("ai-output", self._chunk_extras("message-metadata", **metadata)))
        step = self._step_headers()
        assert self._step is not None
        assert self._step.serial is not None
        step["step-start-serial"] = self._step.serial.result()
        step["step-reason"] = "failed" if reason == "error" else reason
        fields.append(("ai-step-end", {"ai": {"transport": step}}))
        run = self._run_headers() | {"run-reason": reason}
        if reason == "error":
            run |= {"error-code": "50000", "error-message": (end.error or end.state)[:500]}
        headers = self._headers() | self._end_headers(end)
        fields.append(("ai-run-end", {"headers": headers, "ai": {"transport": run}}))
        messages = [
            new_message(id=f"{self.fence}-end:{index}", name=name, data="", extras=extras)
            for index, (name, extras) in enumerate(fields)
        ]
        await self._sender.limiter.wait(count=len(messages))
        return self._sender.create_all(channel, messages, "ending a run")

    def _result_messages(self, result: ToolResultEvent, key: str) -> list[Any]:
        messages = super()._result_messages(result, key)
        if len(messages) > 1:
            return messages
        (message,) = messages
        kind = "tool-output-available" if result.error is None else "tool-output-error"
        extras = message.extras | self._chunk_extras(kind, toolCallId=result.call_id)
        data: dict[str, Any] = dict(message.data)
        if result.error is not None:
            data["errorText"] = result.error
        else:
            data.setdefault("output", None)
        return [new_message(id=message.id, name="ai-output", data=data, extras=extras)]

    async def _begin_heartbeat(self) -> asyncio.Task[Any] | None:
        if self._head.serial is None:
            return None
        if self._heartbeat is None or self._heartbeat.suspect:
            self._heartbeat = SentMessage(f"{self.fence}-pulse", "heartbeat", None, 0)
        channel = await self._sender.connection.channel(self.channel)
        return await self._write(channel, self._heartbeat, "", None)


def _json(**headers: Any) -> dict[str, str]:
    """Codec headers that hold JSON."""
    return {name: msgspec.json.encode(value).decode() for name, value in headers.items()}


def _source_chunk(tag: str, data: Any) -> tuple[str, dict[str, str], str]:
    """The kind, the codec headers and the data of a source."""
    source = source_of(data)
    codec = {"sourceId": tag}
    if "url" in source:
        title = {"title": source["title"]} if source.get("title") else {}
        return "source-url", codec | title, source["url"]
    codec["mediaType"] = source.get("media_type", "text/plain")
    codec["title"] = source.get("title") or source.get("filename") or "Source"
    if source.get("filename"):
        codec["filename"] = source["filename"]
    return "source-document", codec, ""
