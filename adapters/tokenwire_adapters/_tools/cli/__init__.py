"""The parts of the command line; see `tokenwire_adapters.cli`."""
