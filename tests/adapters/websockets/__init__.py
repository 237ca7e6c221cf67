"""Tests of responses that come on WebSockets."""
