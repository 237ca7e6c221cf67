"""What relies on private parts of LangChain and LangGraph.

Read against langchain-core 1.7 and 1.8, and langgraph 1.2.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

__all__ = ["add_default_handler", "is_interrupt", "is_llm_start", "remove_default_handler"]


def is_llm_start() -> bool:
    """Whether the caller's caller is LangChain's ``on_llm_start``, of an async completion model.

    It asks each handler for ``run_inline``, and as soon as one is inline it leaves out every other
    handler: `AsyncCallbackManager.on_llm_start`, langchain_core/callbacks/manager.py.
    """
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    if frame.f_code.co_name == "<listcomp>" and frame.f_back is not None:  # Python 3.11
        frame = frame.f_back
    return frame.f_code.co_name == "on_llm_start"


def add_default_handler(variable: ContextVar[Any]) -> None:
    """Have LangChain call the handler that `variable` holds for every run."""
    from langchain_core.tracers import context  # with it comes the client of LangSmith

    context.register_configure_hook(variable, inheritable=True)


def remove_default_handler(variable: ContextVar[Any] | None) -> None:
    """Undo `add_default_handler`. LangChain itself cannot: langchain_core/tracers/context.py."""
    from langchain_core.tracers import context

    hooks: list[Any] = context._configure_hooks  # pyright: ignore[reportPrivateUsage]
    hooks[:] = [hook for hook in hooks if hook[0] is not variable]


def is_interrupt(error: BaseException) -> bool:
    """Whether a tool raised LangGraph's interrupt, which is no failure: it runs again later.

    By the name of its base class in langgraph/errors.py, since LangGraph need not be installed.
    """
    return any(cls.__name__ == "GraphBubbleUp" for cls in type(error).__mro__)
