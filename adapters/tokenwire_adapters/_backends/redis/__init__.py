"""The private parts of the Redis backend."""
