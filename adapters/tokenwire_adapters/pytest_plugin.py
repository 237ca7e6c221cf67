"""The pytest plugin of tokenwire. Loaded by pytest through the entry point ``tokenwire``."""
