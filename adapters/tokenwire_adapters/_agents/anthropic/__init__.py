"""Readers of the wire format of Anthropic's API."""
