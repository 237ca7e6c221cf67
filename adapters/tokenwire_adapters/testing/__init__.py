"""Servers for tests: `provider`, a scripted model provider, and `ably`, a local Ably.

They are for tests, demos and measurements; nothing that runs in production imports them.
"""

from __future__ import annotations

__all__: list[str] = []
