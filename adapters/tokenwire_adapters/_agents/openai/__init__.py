"""Readers of the wire formats of OpenAI's APIs."""
