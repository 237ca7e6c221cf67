"""The inside of the gateway; `tokenwire_adapters.asgi` is its public face."""
