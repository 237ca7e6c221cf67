"""The private parts of the SQLite backend."""
