"""Draws the pictures of the pages, ``docs/pictures/*.svg``, from the descriptions in this file.

    python docs/draw_pictures.py            # write the pictures
    python docs/draw_pictures.py --check    # fail where they are not up to date

They are narrow, so that a phone shows them without shrinking the text, and have a background and
two colour schemes of their own, so that they are legible on any page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

OUT = Path(__file__).resolve().parent / "pictures"

WIDTH = 500
MARGIN = 16
# By scheme: the background, text, quiet text, lines, boxes, marked boxes, arrows.
PALETTE = {
    "light": ("#ffffff", "#1b1f24", "#4d5560", "#7a828c", "#f2f4f7", "#dbe8ff", "#0b57d0"),
    "dark": ("#14171c", "#e9edf2", "#b6bec9", "#7d8792", "#20252d", "#1d3357", "#8ab4f8"),
}
CLASSES = ("back", "text", "quiet", "line", "box", "marked", "arrow")


@dataclass(frozen=True)
class Box:
    """A box with a title, and lines of small text below it."""

    x: int
    y: int
    width: int
    title: str
    lines: tuple[str, ...] = ()
    marked: bool = False

    @property
    def height(self) -> int:
        return 34 + 18 * len(self.lines)


@dataclass(frozen=True)
class Arrow:
    """An arrow along these points, with a label right of its middle."""

    points: tuple[tuple[int, int], ...]
    label: str = ""


@dataclass(frozen=True)
class Picture:
    name: str
    title: str
    description: str
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...] = ()


@dataclass(frozen=True)
class Step:
    """A message from one lane to another; or, between a lane and itself, a note at that lane."""

    source: int
    target: int
    text: str
    marked: bool = False


@dataclass(frozen=True)
class Sequence:
    """Who says what to whom, from the top to the bottom."""

    name: str
    title: str
    description: str
    lanes: tuple[str, ...]
    steps: tuple[Step, ...]


def house() -> Picture:
    left, right, half = MARGIN, 258, 226
    return Picture(
        name="house",
        title="The parts of tokenwire",
        description=(
            "On the left, from the top down: the agent, an adapter that records its model calls,"
            " and the sink with a writer and an outbox, which publishes to the backend at the"
            " bottom. On the right, from the backend up: a hub for each channel, the gateway, and"
            " the screens. Cancels go the other way."
        ),
        height=452,
        boxes=(
            Box(left, 16, half, "Your agent", ("calls its model as before",)),
            Box(right, 16, half, "Screens", ("pages, phones, terminals",)),
            Box(left, 118, half, "Adapter", ("records what the model", "streams, changes nothing")),
            Box(right, 118, half, "Gateway", ("SSE, WebSocket, history,", "cancel, inputs")),
            Box(left, 238, half, "Sink: writer, outbox", ("merges, retries, renews", "the lease")),
            Box(
                right,
                238,
                half,
                "Sink: hub, watches",
                ("one subscription for all", "who watch a channel"),
            ),
            Box(
                left,
                366,
                WIDTH - 2 * MARGIN,
                "Backend: the log of each channel",
                (
                    "this process, a SQLite file, Redis, Ably, or your own:",
                    "what is kept, and who may write",
                ),
                marked=True,
            ),
        ),
        arrows=(
            Arrow(((129, 68), (129, 118)), "chunks"),
            Arrow(((129, 188), (129, 238)), "write(text)"),
            Arrow(((80, 308), (80, 366)), "entries"),
            Arrow(((340, 366), (340, 308)), "events"),
            Arrow(((371, 238), (371, 188)), "frames"),
            Arrow(((371, 118), (371, 68)), "text"),
            Arrow(((190, 366), (190, 308)), "cancels"),
            Arrow(((424, 308), (424, 366)), "cancels"),
        ),
    )


def token() -> Picture:
    steps = (
        ("1  The model sends a chunk", "The agent gets it at once, as it does without tokenwire."),
        (
            "2  The recorder copies its text",
            "write() appends to the outbox and returns: a microsecond.",
        ),
        ("3  The outbox publishes", "What gathers while a publish is under way goes as one entry."),
        ("4  The backend appends", "The entry gets a cursor: its place in the channel's log."),
        ("5  The hub takes it", "Once for each process, into a ring of recent events."),
        ("6  The gateway encodes it", "Once for each format, whoever watches."),
        ("7  Every screen adds it", "At its offset: a repeat changes nothing, a gap is noticed."),
    )
    top, gap = 16, 78
    return Picture(
        name="token",
        title="The way of one token",
        description="Seven steps: " + "; ".join(f"{title[3:]}: {line}" for title, line in steps),
        height=top + gap * len(steps) - 10,
        boxes=tuple(
            Box(MARGIN, top + gap * n, WIDTH - 2 * MARGIN, title, (line,), marked=n == 3)
            for n, (title, line) in enumerate(steps)
        ),
        arrows=tuple(
            Arrow(((WIDTH // 2, top + gap * n + 52), (WIDTH // 2, top + gap * (n + 1))))
            for n in range(len(steps) - 1)
        ),
    )


JOIN = Sequence(
    name="join",
    title="A late watcher joins",
    description=(
        "The agent has written “Hello” when a watcher joins. The backend answers with a snapshot of"
        " the whole text and its cursor; every later delta follows, none missing and none twice."
    ),
    lanes=("Sink", "Backend", "Late watcher"),
    steps=(
        Step(0, 1, "“Hel”, offset 0"),
        Step(0, 1, "“lo”, offset 3"),
        Step(2, 1, "watch"),
        Step(1, 2, "snapshot “Hello”", marked=True),
        Step(2, 2, "shows Hello"),
        Step(0, 1, "“ world”, offset 5"),
        Step(1, 2, "“ world”, offset 5"),
        Step(2, 2, "shows Hello world"),
        Step(0, 1, "end: complete"),
        Step(1, 2, "end: complete"),
    ),
)

CANCEL = Sequence(
    name="cancel",
    title="A watcher cancels",
    description=(
        "A watcher presses stop. The cancel goes through the gateway and the backend to the sink"
        " that writes the response. It freezes the text, closes the provider's HTTP response and"
        " ends the response as cancelled; every watcher sees that, and whoever pressed stop learns"
        " the outcome."
    ),
    lanes=("Model", "Sink", "Backend", "Watcher"),
    steps=(
        Step(0, 1, "tokens"),
        Step(1, 2, "deltas"),
        Step(2, 3, "deltas"),
        Step(3, 2, "cancel", marked=True),
        Step(2, 1, "cancel", marked=True),
        Step(1, 1, "text frozen"),
        Step(1, 0, "HTTP closed"),
        Step(1, 2, "cancelled"),
        Step(2, 3, "cancelled"),
        Step(3, 3, "stopped"),
    ),
)


def style() -> str:
    def rules(scheme: str) -> str:
        colours = dict(zip(CLASSES, PALETTE[scheme], strict=True))
        return (
            f".back{{fill:{colours['back']}}}text{{fill:{colours['text']}}}"
            f".quiet{{fill:{colours['quiet']}}}"
            f".box{{fill:{colours['box']};stroke:{colours['line']}}}"
            f".marked{{fill:{colours['marked']};stroke:{colours['arrow']}}}"
            f".lane{{stroke:{colours['line']};stroke-dasharray:3 4}}"
            f".arrow{{stroke:{colours['arrow']};fill:none;stroke-width:2}}"
            f".head{{fill:{colours['arrow']}}}"
        )

    return (
        "<style>text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',"
        "sans-serif;font-size:14px}.title{font-weight:600;font-size:15px}"
        f"{rules('light')}@media (prefers-color-scheme:dark){{{rules('dark')}}}</style>"
    )


def text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(item: Box) -> Iterator[str]:
    kind = "marked" if item.marked else "box"
    yield "<g>"
    yield (
        f'<rect x="{item.x}" y="{item.y}" width="{item.width}" height="{item.height}" rx="6"'
        f' class="{kind}"/>'
    )
    yield text(item.x + 12, item.y + 23, item.title, "title")
    for n, line in enumerate(item.lines):
        yield text(item.x + 12, item.y + 43 + 18 * n, line, "quiet")
    yield "</g>"


def arrow(points: tuple[tuple[int, int], ...]) -> str:
    """A line along the points, with a head at the last one."""
    (x0, y0), (x1, y1) = points[-2:]
    dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    line = " ".join(f"{x},{y}" for x, y in (*points[:-1], (x1 - 6 * dx, y1 - 6 * dy)))
    corners = ((x1, y1), (x1 - 9 * dx + 5 * dy, y1 - 9 * dy + 5 * dx))
    corners += ((x1 - 9 * dx - 5 * dy, y1 - 9 * dy - 5 * dx),)
    head = " ".join(f"{x},{y}" for x, y in corners)
    return f'<polyline points="{line}" class="arrow"/><polygon points="{head}" class="head"/>'


def document(name: str, title: str, description: str, height: int, parts: Iterator[str]) -> str:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img" aria-labelledby="{name}-title {name}-desc">'
    )
    lines = [
        svg,
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(description)}</desc>',
        style(),
        f'<rect width="{WIDTH}" height="{height}" rx="8" class="back"/>',
        *parts,
        "</svg>\n",
    ]
    return "\n".join(lines)


def drawn(picture: Picture) -> str:
    def parts() -> Iterator[str]:
        for item in picture.arrows:
            yield arrow(item.points)
            (x, y0), (_, y1) = item.points[:2]
            if item.label:
                yield text(x + 10, (y0 + y1) / 2 + 5, item.label, "quiet")
        for item in picture.boxes:
            yield from box(item)

    return document(picture.name, picture.title, picture.description, picture.height, parts())


def drawn_sequence(sequence: Sequence) -> str:
    count, top, step = len(sequence.lanes), 64, 44
    width = (WIDTH - 2 * MARGIN) // count
    centres = [MARGIN + width * n + width // 2 for n in range(count)]
    bottom = top + step * len(sequence.steps)

    def parts() -> Iterator[str]:
        for centre, lane in zip(centres, sequence.lanes, strict=True):
            yield f'<line x1="{centre}" y1="50" x2="{centre}" y2="{bottom}" class="lane"/>'
            yield "<g>"
            yield (
                f'<rect x="{centre - width // 2 + 4}" y="16" width="{width - 8}" height="34" rx="6"'
                ' class="box"/>'
            )
            yield text(centre, 38, lane, "title", "middle") + "</g>"
        for n, item in enumerate(sequence.steps):
            y = top + step * n + 30
            source, target = centres[item.source], centres[item.target]
            if item.source == item.target:
                left = source - width // 2 + 4
                yield "<g>"
                yield (
                    f'<rect x="{left}" y="{y - 20}" width="{width - 8}" height="28" rx="4"'
                    ' class="box"/>'
                )
                yield text(source, y - 1, item.text, "quiet", "middle") + "</g>"
                continue
            yield arrow(((source, y), (target, y)))
            kind = "title" if item.marked else "quiet"
            yield text((source + target) / 2, y - 8, item.text, kind, "middle")

    return document(sequence.name, sequence.title, sequence.description, bottom + 16, parts())


def pictures() -> dict[Path, str]:
    """All pictures, by the file that each belongs in."""
    drawings = {picture.name: drawn(picture) for picture in (house(), token())}
    drawings |= {sequence.name: drawn_sequence(sequence) for sequence in (JOIN, CANCEL)}
    return {OUT / f"{name}.svg": drawing for name, drawing in drawings.items()}


def main() -> None:
    check = sys.argv[1:] == ["--check"]
    OUT.mkdir(exist_ok=True)
    for path, drawing in pictures().items():
        if check and (not path.exists() or path.read_text("utf-8") != drawing):
            raise SystemExit(f"{path.name} is not up to date: run python docs/draw_pictures.py")
        if not check:
            path.write_text(drawing, "utf-8")


if __name__ == "__main__":
    main()
