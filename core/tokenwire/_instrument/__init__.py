"""How calls of provider SDKs are recorded; the public names are in `tokenwire.instrument`."""
