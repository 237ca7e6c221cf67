"""Blocks that set the channel and the run of the code in them, see `tokenwire.context`."""

from __future__ import annotations

from tokenwire._context.blocks import Block, ContextBlock, current_block

__all__ = ["Block", "ContextBlock", "current_block"]
