"""The two lines that put the agent's tokens on every screen."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

import tokenwire
from tokenwire_adapters.openai import wrap

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["answer_in", "publish"]

T = TypeVar("T")


def publish(
    client: AsyncOpenAI,
    sink: tokenwire.Sink,
) -> AsyncOpenAI:
    """Publish what the client streams."""
    return wrap(client, sink)  # new


async def answer_in(
    chat: str,
    run: str,
    answer: Awaitable[T],
) -> T:
    """Say where it is published."""
    with tokenwire.channel(chat, run=run):  # new
        return await answer
