"""What reads the agents: one package for each provider's API and each framework.

Nothing here imports an SDK when it is loaded: chunks and clients are known by their shape, so that
every version in use, and every server that speaks a provider's API a little differently, can be
read.
"""
