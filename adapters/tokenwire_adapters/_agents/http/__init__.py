"""Listens on HTTP clients: reads a copy of the replies of models, whatever SDK is above."""
