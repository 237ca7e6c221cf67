"""Adapters of agents: a package for each provider's API, each framework, and what they share.

Nothing here imports a provider's SDK: chunks and clients are known by their shape, so that every
version in use, and every server that speaks a provider's API a little differently, can be read.
"""
