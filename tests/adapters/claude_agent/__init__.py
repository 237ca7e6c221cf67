"""Tests of the adapter for Claude's agent SDK, with a stand-in for its program."""
