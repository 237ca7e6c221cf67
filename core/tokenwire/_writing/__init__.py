"""The way of what is written: from a writer to the backend."""
