"""Readers of model replies as they are on the wire: bytes over HTTP, without any SDK."""
