"""What relies on private parts of Claude's agent SDK. Read against claude-agent-sdk 0.2.189."""

from __future__ import annotations

import importlib

__all__ = ["query_owner"]


def query_owner() -> type:
    """The class whose ``process_query`` is what `claude_agent_sdk.query` yields from."""
    owner: type = importlib.import_module("claude_agent_sdk._internal.client").InternalClient
    return owner
