"""Plugins of pytest that come with packages which tests install."""

from __future__ import annotations

__all__ = ["WITHOUT_SLOW_PLUGINS"]

_SLOW = ("faker", "langsmith_plugin", "schemathesis")

WITHOUT_SLOW_PLUGINS = [option for name in _SLOW for option in ("-p", f"no:{name}")]
"""For a test run of its own, which would take a second to import them."""
