"""Servers for tests: a scripted model provider, and a local Ably."""
