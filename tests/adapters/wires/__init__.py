"""Readers of wire formats: replies from bytes, without an SDK."""
