"""Reads what Claude's agent SDK receives from its program."""
