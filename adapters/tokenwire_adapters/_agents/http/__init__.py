"""Reads models' replies below the SDKs: from the bytes that HTTP clients receive."""
