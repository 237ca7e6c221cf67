"""Reads models' replies that come on WebSockets, on the clients of the package `websockets`."""
