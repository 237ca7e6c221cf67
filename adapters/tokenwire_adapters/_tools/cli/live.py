"""The live view of a channel in a terminal, drawn by `rich`: what streams, and how fast.

Responses that have ended stay above it, as ordinary output.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.text import Text

from tokenwire.errors import GapError
from tokenwire.events import (
    DataEvent,
    DeltaEvent,
    Event,
    InputEvent,
    Response,
    ToolResult,
    ToolResultEvent,
)
from tokenwire.response import Assembler
from tokenwire_adapters._tools.cli.printer import as_text, harmless

__all__ = ["LiveView"]

_REMEMBERED = 10_000  # ended responses, so that none is printed twice
_RATE_WINDOW = 3.0  # seconds
_STYLES = {"reasoning": "dim italic", "refusal": "red"}
_BORDERS = {"streaming": "cyan", "complete": "green", "cancelled": "yellow"}


class _Streaming:
    """A response that streams, and when its text came."""

    def __init__(self, response_id: str) -> None:
        self.assembler = Assembler(response_id)
        self.began = time.monotonic()
        self.arrivals: list[tuple[float, int]] = []

    def arrived(self, size: int) -> None:
        now = time.monotonic()
        self.arrivals.append((now, size))
        while self.arrivals[0][0] < now - _RATE_WINDOW:
            del self.arrivals[0]

    @property
    def rate(self) -> float:
        """Characters a second, of late."""
        now = time.monotonic()
        recent = sum(size for at, size in self.arrivals if at >= now - _RATE_WINDOW)
        return recent / max(0.25, min(_RATE_WINDOW, now - self.began))


class LiveView:
    """Shows a channel as it is; has the methods of `Printer`.

    :param channel: its name, for the line that says what is waited for.
    :param console: where to draw.
    """

    def __init__(self, channel: str, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._waiting = Spinner("dots", Text(f"waiting in {harmless(channel)}", style="dim"))
        self._streaming: dict[str, _Streaming] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()  # the view is drawn by a thread of rich
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=12,
            transient=True,
            vertical_overflow="crop",
        )
        self._live.start()

    def show(self, event: Event) -> None:
        """Take an event in."""
        if isinstance(event, InputEvent):
            sender = f"{event.sender}: " if event.sender else ""
            self._note(f"» {sender}{as_text(event.data)}")
        elif isinstance(event, DataEvent):
            self._note(f"· {event.name}: {as_text(event.data)}")
        elif event.response_id is not None and event.response_id not in self._ended:
            with self._lock:
                ended = self._fold(event.response_id, event)
            if ended is not None:
                self._console.print(self._panel(ended, None, None))
        elif isinstance(event, ToolResultEvent):
            self._note(f"→ {event.name or event.call_id}: {event.error or as_text(event.output)}")

    def _fold(self, response_id: str, event: Event) -> Response | None:
        """Fold an event in; return its response once it has ended."""
        streaming = self._streaming.setdefault(response_id, _Streaming(response_id))
        with contextlib.suppress(GapError):  # the gateway, or the watch, follows with a snapshot
            streaming.assembler.apply(event)
        if isinstance(event, DeltaEvent):
            streaming.arrived(len(event.text))
        if streaming.assembler.state is None:
            del self._streaming[response_id]
        elif streaming.assembler.ended:
            del self._streaming[response_id]
            self._ended[response_id] = None
            if len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
            return streaming.assembler.response
        return None

    def close(self) -> None:
        """Stop drawing; what streams is printed as far as it has come."""
        self._live.stop()
        for streaming in self._streaming.values():
            self._console.print(self._panel(streaming.assembler.response, None, None))

    def _note(self, text: str) -> None:
        self._console.print(Text(harmless(text), style="dim"))

    # -- drawing

    def _draw(self) -> RenderableType:
        with self._lock:
            if not self._streaming:
                return self._waiting
            height = max(4, (self._console.height - 1) // len(self._streaming) - 2)
            panels = [
                self._panel(one.assembler.response, one, height) for one in self._streaming.values()
            ]
        return Group(*panels)

    def _panel(
        self, response: Response, streaming: _Streaming | None, height: int | None
    ) -> RenderableType:
        """A response in a frame.

        :param height: how many lines of its end are shown; None for all of it.
        """
        model = response.metadata.get("model")
        title = response.id + (f" · {model}" if model else "")
        facts: list[str] = [response.state]
        if streaming is not None:
            facts.append(f"{time.monotonic() - streaming.began:.1f} s")
            facts.append(f"{streaming.rate:.0f} characters/s")
        elif response.started_at is not None and response.ended_at is not None:
            facts.append(f"{(response.ended_at - response.started_at) / 1000:.1f} s")
        if response.error:
            facts.append(response.error)
        body = _body(response)
        if height is not None:
            lines = body.wrap(self._console, self._console.width - 4)
            body = Text("\n").join(lines[-height:])
        return Panel(
            body,
            title=Text(harmless(title)),
            title_align="left",
            subtitle=Text(harmless(" · ".join(facts))),
            subtitle_align="right",
            border_style=_BORDERS.get(response.state, "red"),
        )


def _body(response: Response) -> Text:
    body = Text()
    results = {result.call_id: result for result in response.tool_results}
    for part in response.parts:
        if body:
            body.append("\n")
        if part.kind == "tool_call":
            body.append(f"⚙ {harmless(part.name or 'tool')} ", style="bold")
            body.append(harmless(part.text), style="dim")
            if part.call_id in results:
                body.append(_answer(results.pop(part.call_id)), style="dim")
        elif part.data is not None:
            body.append(harmless(f"· {part.name or part.kind}: {as_text(part.data)}"), style="dim")
        else:
            body.append(harmless(part.text), style=_STYLES.get(part.kind, ""))
    for result in results.values():
        body.append(_answer(result), style="dim")
    return body


def _answer(result: ToolResult) -> str:
    return harmless(f"\n→ {result.error or as_text(result.output)}")
