"""What can go wrong on a connection, as values: a small language for `FaultyProxy.play`.

Directions are ``"up"`` (client to server) and ``"down"`` (server to client). A fault with
`seconds` lasts that long and then heals; the others happen once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Direction: TypeAlias = Literal["up", "down"]
DIRECTIONS: tuple[Direction, Direction] = ("up", "down")


@dataclass(frozen=True)
class Cut:
    """Close every open connection; with `reset` by RST, else by FIN."""

    reset: bool = False


@dataclass(frozen=True)
class CutAfter:
    """Close the connection that carries the `count`-th byte from now on, right behind that byte."""

    count: int
    direction: Direction = "down"
    reset: bool = False


@dataclass(frozen=True)
class LoseReply:
    """Let `skip` requests pass; forward the next one, swallow what the server answers, cut.

    The server has then run a command whose reply the client never gets. With `matching`, only
    requests that contain these bytes count.
    """

    skip: int = 0
    matching: bytes = b""


@dataclass(frozen=True)
class Delay:
    """Hold everything that passes for `each` seconds."""

    each: float
    seconds: float


@dataclass(frozen=True)
class Throttle:
    """Let `rate` bytes a second through, per connection and direction."""

    rate: int
    seconds: float


@dataclass(frozen=True)
class Stall:
    """Forward nothing in that direction (None: in both); afterwards all of it goes on."""

    direction: Direction | None
    seconds: float


@dataclass(frozen=True)
class HalfOpen:
    """What is sent in that direction vanishes, and so does a close, without an error.

    When it heals, the connections that lost something are reset: TCP never heals a hole.
    """

    direction: Direction
    seconds: float


@dataclass(frozen=True)
class Refuse:
    """Cut every connection and refuse new ones (``ECONNREFUSED``)."""

    seconds: float


Fault: TypeAlias = Cut | CutAfter | LoseReply | Delay | Throttle | Stall | HalfOpen | Refuse


@dataclass(frozen=True)
class Step:
    """Apply `fault` once `after` more requests have passed, or none has come for 0.1 s."""

    fault: Fault
    after: int = 0


Script: TypeAlias = tuple[Step, ...]


def faults(*, longest: float = 0.2) -> SearchStrategy[Fault]:
    """A hypothesis strategy of faults, none lasting longer than `longest` seconds."""
    from hypothesis import strategies as st

    seconds = st.floats(0.0, longest, allow_nan=False)
    direction = st.sampled_from(DIRECTIONS)
    return st.one_of(
        st.builds(Cut, reset=st.booleans()),
        st.builds(CutAfter, st.integers(1, 4000), direction, st.booleans()),
        st.builds(LoseReply, st.integers(0, 5)),
        st.builds(Delay, st.floats(0.0, 0.02), seconds),
        st.builds(Throttle, st.integers(20_000, 1_000_000), seconds),
        st.builds(Stall, st.none() | direction, seconds),
        st.builds(HalfOpen, direction, seconds),
        st.builds(Refuse, seconds),
    )


def scripts(
    *, longest: float = 0.2, min_size: int = 0, max_size: int = 6
) -> SearchStrategy[Script]:
    """A hypothesis strategy of whole scripts; the shortest one is the simplest."""
    from hypothesis import strategies as st

    steps = st.builds(Step, faults(longest=longest), st.integers(0, 20))
    return st.lists(steps, min_size=min_size, max_size=max_size).map(tuple)
