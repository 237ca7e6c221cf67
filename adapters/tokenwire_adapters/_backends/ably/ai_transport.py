"""The stream that ``@ably/ai-transport`` 0.8 publishes, with the codec for the AI SDK's messages.

Written after Ably's documentation (ai-transport, internals/wire-protocol) and the messages that
its own agent session publishes. Two tiers of headers in ``extras.ai`` are theirs; our headers stand
beside them in ``extras.headers``, so that a sink reads the same messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tokenwire.backend import Entry
from tokenwire.errors import BackendError, BackendUnavailable
from tokenwire.events import EndEvent, Part, StartEvent, ToolResultEvent
from tokenwire_adapters._backends.ably.event_messages import single_messages
from tokenwire_adapters._backends.ably.message_per_response import ResponseWriter, Sent
from tokenwire_adapters._backends.ably.response_writer import Sending
from tokenwire_adapters._backends.ably.wire import new_message, size_of

__all__ = ["AiTransportWriter", "Answer"]

Answer = Callable[[str, object], Awaitable[tuple[str, str | None] | None]]
"""From a response's id and what its metadata calls ``input``: that input's id, and its sender."""

_FINISH = frozenset({"stop", "length", "content-filter", "tool-calls", "error", "other"})
_REASONS = {"complete": "complete", "cancelled": "cancelled"}


class AiTransportWriter(ResponseWriter):
    """A response as a run of one step.

    ``ai-run-start`` is the head, and holds no text. Each part is a stream of its own, closed when
    a later part begins: pages do not look at a stream that has been closed, so all of it has been
    acknowledged before.
    """

    head_takes_text = False

    def __init__(self, entry: Entry, sending: Sending, answer: Answer) -> None:
        super().__init__(entry, sending)
        self._answer = answer
        self._input: tuple[str, str | None] | None = None
        self._step: Sent | None = None
        self._pulse: Sent | None = None
        self._closings: dict[int, str] = {}  # number of a stream's message: how it was closed

    # -- identities

    @property
    def _message_id(self) -> str:
        return f"{self.id}-message"

    def _run_headers(self) -> dict[str, str]:
        told = {"run-id": self.id, "invocation-id": f"{self.id}-invocation"}
        if self._input is not None:
            message_id, sender = self._input
            told["input-codec-message-id"] = message_id
            if sender is not None:
                told |= {"run-client-id": sender, "input-client-id": sender}
        return told

    def _step_headers(self) -> dict[str, str]:
        told = self._run_headers() | {"step-id": f"{self.id}-step-0"}
        if "run-client-id" in told:
            told["step-client-id"] = told["run-client-id"]
        return told

    def _output_headers(self) -> dict[str, str]:
        told = self._step_headers() | {"role": "assistant", "codec-message-id": self._message_id}
        if self._input is not None:
            told["parent"] = self._input[0]
        if self._step is not None and self._step.serial is not None and self._step.serial.done():
            told["step-start-serial"] = self._step.serial.result()
        return told

    def _headers(self) -> dict[str, Any]:
        told = super()._headers()
        if self._input is not None:
            told["input"] = self._input[0]
        return told

    # -- what messages say

    def _extras(self, sent: Sent, end: EndEvent | None) -> dict[str, Any]:
        if sent.extras is not None:
            return sent.extras
        made = super()._extras(sent, end)
        if sent is self._head:
            transport = self._run_headers()
            if self._input is not None:
                transport["parent"] = self._input[0]
            made["ai"] = {"transport": transport}
        elif sent.part is not None:
            made["ai"] = self._stream(sent, self._part(sent.part))
        return made

    def _stream(self, sent: Sent, part: Part) -> dict[str, Any]:
        transport = self._output_headers()
        number = self._sent.index(sent)
        name = f"part-{sent.part}" + (f"-{number}" if sent.base else "")
        if sent.payload is not None:
            transport["stream"] = "false"
            return {"transport": transport, "codec": {"kind": f"data-{part.name or part.kind}"}}
        if part.kind == "tool_call":
            name = part.call_id or name
            codec = {"kind": "tool-input", "toolCallId": name, "toolName": part.name or ""}
        elif part.kind in ("reasoning", "text"):
            codec = {"kind": part.kind, "id": name}
        else:
            codec = {"kind": "text", "id": name}
        status = self._closings.get(number, "streaming")
        transport |= {"stream": "true", "status": status, "stream-id": name}
        return {"transport": transport, "codec": codec}

    def _discrete(self, kind: str, **codec: str) -> dict[str, Any]:
        transport = self._output_headers() | {"stream": "false"}
        return {"ai": {"transport": transport, "codec": {"kind": kind, **codec}}}

    # -- sending

    def _new(self, part: int, kind: str, base: int) -> Sent:
        sent = super()._new(part, kind, base)
        sent.name = "ai-output"
        return sent

    def _payload(self, index: int, part: Part) -> list[tuple[Sent, str]]:
        if size_of(part.data) > self._room:  # pages do not see it, tokenwire's watchers do
            return super()._payload(index, part)
        sent = self._new(index, part.kind, 0)
        sent.payload = (part.data, {"payload": "raw"})
        sent.closed = True
        return [(sent, "")]

    def _begin(self, entry: Entry) -> None:
        super()._begin(entry)
        self._head.name = "ai-run-start"

    async def _go_on(
        self, channel: Any, entry: Entry, tasks: list[asyncio.Task[Any]]
    ) -> list[asyncio.Task[Any]]:
        tasks += await self._open(channel, entry)
        results = self._new_results()
        for sent, text in self._plan():
            if sent.serial is None and sent.part is not None:
                tasks += await self._close_streams(channel, sent.part)
                if sent.payload is None and text:
                    # Ably's decoder looks at the data of appends only, not at what a stream
                    # is created with.
                    tasks.append(await self._write(channel, sent, "", None))
            if sent.closed and sent.payload is None and text == "":
                continue
            tasks.append(await self._write(channel, sent, text, None))
        if results:
            calls = {result.call_id for result in results}
            tasks += await self._close_calls(channel, calls)
            tasks += await self._results(channel, results)
        end = entry.events[-1]
        if isinstance(end, EndEvent) and self.assembler.ended and not self._ended:
            status = "cancelled" if end.state in ("cancelled", "abandoned") else "complete"
            tasks += await self._close_streams(channel, None, status)
            await self._settle(tasks)
            return [await self._close_run(channel, end)]
        return tasks

    async def _open(self, channel: Any, entry: Entry) -> list[asyncio.Task[Any]]:
        """Begin the run and its step, and wait until the step has its serial."""
        tasks: list[asyncio.Task[Any]] = []
        if self._head.serial is None:
            start = entry.events[0]
            wanted = start.metadata.get("input") if isinstance(start, StartEvent) else None
            self._input = await self._answer(self.id, wanted)
            tasks.append(await self._write(channel, self._head, "", None))
        if self._step is None:
            self._step = self._fixed("ai-step-start", {"ai": {"transport": self._step_headers()}})
        if self._step.serial is None:
            tasks.append(await self._write(channel, self._step, "", None))
            await self._serial(self._step)
            for kind, codec in (("start", {"messageId": self.id}), ("start-step", {})):
                opening = self._fixed("ai-output", self._discrete(kind, **codec))
                tasks.append(await self._write(channel, opening, "", None))
        await self._serial(self._step)
        return tasks

    def _fixed(self, name: str, extras: dict[str, Any]) -> Sent:
        """A message of the run that never changes."""
        sent = Sent(f"{self.fence}-{len(self._sent)}", name, None, 0)
        sent.extras = extras
        self._sent.append(sent)
        return sent

    async def _close_streams(
        self, channel: Any, before: int | None, status: str = "complete"
    ) -> list[asyncio.Task[Any]]:
        """Close the open streams, or those of the parts before one."""
        tasks: list[asyncio.Task[Any]] = []
        for number, sent in enumerate(self._sent):
            if sent.part is None or sent.payload is not None or number in self._closings:
                continue
            if sent.serial is None or (before is not None and sent.part > before):
                continue
            tasks.append(await self._close_stream(channel, number, status))
        return tasks

    async def _close_calls(self, channel: Any, calls: set[str]) -> list[asyncio.Task[Any]]:
        """Close the streams of tool calls that were answered."""
        tasks: list[asyncio.Task[Any]] = []
        for number, sent in enumerate(self._sent):
            if sent.part is None or number in self._closings or sent.serial is None:
                continue
            part = self._part(sent.part)
            if part.kind == "tool_call" and part.call_id in calls and sent.payload is None:
                tasks.append(await self._close_stream(channel, number, "complete"))
        return tasks

    async def _close_stream(self, channel: Any, number: int, status: str) -> asyncio.Task[Any]:
        sent = self._sent[number]
        if sent.last is not None:
            await asyncio.wait([sent.last])
        if sent.suspect:
            raise BackendUnavailable("a stream must be repaired before it is closed")
        self._closings[number] = status
        sent.closed = True
        return await self._write(channel, sent, "", None)

    async def _close_run(self, channel: Any, end: EndEvent) -> asyncio.Task[Any]:
        reason = _REASONS.get(end.state, "error")
        wires: list[tuple[str, dict[str, Any]]] = []
        if end.state == "complete":
            finish = end.finish_reason if end.finish_reason in _FINISH else "other"
            wires.append(("ai-output", self._discrete("finish-step")))
            wires.append(("ai-output", self._discrete("finish", finishReason=finish or "stop")))
        step = self._step_headers()
        assert self._step is not None
        assert self._step.serial is not None
        step["step-start-serial"] = self._step.serial.result()
        step["step-reason"] = "failed" if reason == "error" else reason
        wires.append(("ai-step-end", {"ai": {"transport": step}}))
        run = self._run_headers() | {"run-reason": reason}
        if reason == "error":
            run |= {"error-code": "50000", "error-message": (end.error or end.state)[:500]}
        ours = self._headers() | self._end_headers(end)
        wires.append(("ai-run-end", {"headers": ours, "ai": {"transport": run}}))
        messages = [
            new_message(id=f"{self.fence}-end:{index}", name=name, data="", extras=extras)
            for index, (name, extras) in enumerate(wires)
        ]
        await self._sending.pace.wait(count=len(messages))
        return self._sending.create_all(channel, messages, "ending a run")

    def _result_messages(self, result: ToolResultEvent, key: str, room: int) -> list[Any]:
        messages = single_messages(result, key, room)
        if len(messages) == 1:
            kind = "tool-output-available" if result.error is None else "tool-output-error"
            (made,) = messages
            made.extras["ai"] = self._discrete(kind, toolCallId=result.call_id)["ai"]
            data: dict[str, Any] = dict(made.data)
            if result.error is not None:
                data["errorText"] = result.error
            else:
                data.setdefault("output", None)
            return [new_message(id=made.id, name="ai-output", data=data, extras=made.extras)]
        return messages

    async def _beat(self, ttl: float) -> bool:
        self.lease = ttl
        async with self._gate:
            if self._head.serial is None or self._ended:
                return True
            if self._pulse is None:
                self._pulse = Sent(f"{self.fence}-pulse", "heartbeat", None, 0)
            try:
                channel = await self._sending.link.channel(self.channel)
                task = await self._write(channel, self._pulse, "", None)
            except BackendError:
                return False
        try:
            self._took(await task)
        except BackendError:
            self._pulse = None  # another one will do
            return False
        return True
