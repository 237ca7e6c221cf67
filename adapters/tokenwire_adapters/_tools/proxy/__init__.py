"""The proxy: passes requests to model providers on, and publishes what they reply."""
