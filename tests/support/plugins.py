"""Plugins of pytest that a test run of its own does without."""

from __future__ import annotations

__all__ = ["LEAN"]

# A cache would be a file more; the others come with packages, and take a second to import.
_LEFT_OUT = ("cacheprovider", "faker", "langsmith_plugin", "schemathesis")

LEAN = [option for name in _LEFT_OUT for option in ("-p", f"no:{name}")]
"""The options of pytest that leave them out."""
