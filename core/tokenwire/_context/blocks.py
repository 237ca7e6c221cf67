"""Blocks of code with a channel and a run of their own, also where each step has a new context.

A context variable says which blocks were entered in a context. That is not enough for a generator:
web frameworks run each of its steps in a fresh copy of the request's context, in which a block that
an earlier step entered is unknown; and a block that it entered in its reader's context is there for
the reader, too, and for other generators that are read in turn. So a block that is entered in a
generator is also held by the generator's frame, and code finds it there, since the frame is on the
stack whenever the generator runs.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ContextDecorator
from contextvars import ContextVar, Token
from types import CodeType, FrameType, TracebackType
from typing import Any, Self

from tokenwire._context.quirks import caller_frame, is_generator, outer_generator, reading_frames
from tokenwire._ids import check_name

__all__ = ["Block", "ContextBlock", "current_block"]


class Block:
    """One block that was entered.

    :ivar channel: the channel in the block, its own or that of the code around; `run` likewise.
    :ivar metadata: of responses begun in the block: its own over that of the code around.
    :ivar left: whether it was left.
    :ivar holder: the generator that holds it, while it is open; returns None where there is none.
    :ivar outer: the blocks that generators held which were on the stack when it was entered.
    :ivar token: identifies the context that it was entered in; None once it was left there.
    """

    __slots__ = ("__weakref__", "channel", "holder", "left", "metadata", "outer", "run", "token")

    def __init__(
        self,
        channel: str | None,
        run: str | None,
        around: Block | None,
        outer: Iterable[Block],
        holder: Holder | None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.channel: str | None = channel
        self.run: str | None = run
        self.metadata: dict[str, Any] = {**(around.metadata if around else {}), **(metadata or {})}
        if around is not None:
            self.channel = around.channel if channel is None else channel
            self.run = around.run if run is None else run
        self.left = False
        self.holder = _no_holder if holder is None else weakref.ref(holder)
        self.outer = tuple(map(weakref.ref, outer))
        self.token: Token[tuple[Block, ...]] | None = None

    def is_inside(self, other: Block) -> bool:
        """Whether it was entered while the generator that holds `other` ran, in that block."""
        return any(ref() is other for ref in self.outer)

    def spend_token(self) -> bool:
        """Whether it was entered in this very context, rather than in one that this one copies.

        Only a token can tell: the variable is reset, if it may, and set again.
        """
        if self.token is None:
            return False
        entered = _entered.get()
        try:
            _entered.reset(self.token)
        except ValueError:
            return False
        self.token = None
        _entered.set(entered)
        return True

    def leave(self) -> None:
        """Leave the block, in whichever context this is."""
        self.left = True
        self.holder = _no_holder
        self.spend_token()
        entered = _entered.get()
        if self in entered:
            _entered.set(tuple(block for block in entered if block is not self))


class Holder:
    """A generator that has entered blocks.

    Its open blocks keep it alive, and nothing else does.

    :ivar frame: the generator's.
    :ivar readers: the code that reads the generator: further generators, and what reads those.
    :ivar blocks: the open ones, innermost last.
    """

    __slots__ = ("__weakref__", "blocks", "frame", "readers")

    def __init__(self, frame: FrameType) -> None:
        self.frame = frame
        self.readers = frozenset(map(_identity, reading_frames(frame)))
        self.blocks: list[Block] = []


_entered: ContextVar[tuple[Block, ...]] = ContextVar("tokenwire_blocks", default=())
_holders: weakref.WeakValueDictionary[int, Holder] = weakref.WeakValueDictionary()


class ContextBlock(AbstractContextManager[str], ContextDecorator):
    """What `tokenwire.channel` and `tokenwire.run` return: a context manager and a decorator.

    Entering it gives the name. It may be entered again, also while it is open.

    Leaving never raises. One that is dropped without being left is left then.
    """

    def __init__(
        self,
        value: str,
        *,
        channel: str | None = None,
        run: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._value = value
        self._metadata = metadata
        self._channel = channel
        self._run = run
        self._open: list[tuple[Block, Holder | None]] = []

    def __enter__(self) -> str:
        if self._channel is not None:
            check_name(self._channel, "channel")
        if self._run is not None:
            check_name(self._run, "run")
        frame = caller_frame()
        stack = _Stack(frame)
        holder = _holder(outer_generator(frame))
        around = _innermost(_entered_here(), stack)
        block = Block(self._channel, self._run, around, stack.held, holder, self._metadata)
        if holder is not None:
            holder.blocks.append(block)
        entered = _entered.get()
        # Of those that this context inherited, and that were left since, only the last one matters.
        kept = (outer for outer in entered if not outer.left or outer is entered[-1])
        block.token = _entered.set((*kept, block))
        self._open.append((block, holder))
        return self._value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._open:
            block, holder = self._open.pop()
            if holder is not None:
                holder.blocks.remove(block)
            block.leave()

    def __del__(self) -> None:
        # Perhaps in the garbage collector: that is no context to change.
        for block, holder in self._open:
            block.left = True
            if holder is not None:
                holder.blocks.remove(block)

    def _recreate_cm(self) -> Self:
        return type(self)(
            self._value, channel=self._channel, run=self._run, metadata=self._metadata
        )


def current_block() -> Block | None:
    """The innermost block that the caller's code is in."""
    entered = _entered_here()
    if not _holders:
        return entered[-1] if entered else None
    return _innermost(entered, _Stack(caller_frame()))


class _Stack:
    """What is on the stack.

    :ivar running: every frame.
    :ivar held: the open blocks of the generators among them, innermost first.
    """

    __slots__ = ("held", "running")

    def __init__(self, frame: FrameType | None) -> None:
        self.running: set[tuple[int, CodeType]] = set()
        self.held: list[Block] = []
        while frame is not None:
            self.running.add(_identity(frame))
            holder = _holders.get(id(frame)) if is_generator(frame) else None
            if holder is not None and holder.frame is frame:
                self.held.extend(reversed(holder.blocks))
            frame = frame.f_back


def _innermost(entered: tuple[Block, ...], stack: _Stack) -> Block | None:
    held = stack.held[0] if stack.held else None
    for block in reversed(entered):
        if block is held:
            break
        holder = block.holder()
        if (
            holder is not None
            and _identity(holder.frame) not in stack.running
            and (held is not None or not holder.readers.isdisjoint(stack.running))
        ):
            continue  # of a suspended generator that was read in this context
        return block if held is None or block.is_inside(held) else held
    return held


def _entered_here() -> tuple[Block, ...]:
    """The blocks that were entered in this context or, before it was copied, in its original.

    One that was left in another context is forgotten now in the one that it was entered in. In a
    copy (a task that was begun in the block) it goes on.
    """
    entered = _entered.get()
    for block in entered:
        if block.left and block.spend_token():
            entered = tuple(other for other in entered if other is not block)
            _entered.set(entered)
    return entered


def _holder(frame: FrameType | None) -> Holder | None:
    if frame is None:
        return None
    holder = _holders.get(id(frame))
    if holder is None or holder.frame is not frame:
        holder = _holders[id(frame)] = Holder(frame)
    return holder


def _identity(frame: FrameType) -> tuple[int, CodeType]:
    """Tells a frame from others, as long as it runs. The frame itself would keep its locals."""
    return id(frame), frame.f_code


def _no_holder() -> None:
    return None
