"""A folder that `tokenwire run` puts in front of a program's ``PYTHONPATH``."""
