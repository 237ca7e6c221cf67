"""uvicorn's protocols, which hand over the transports of event streams."""
