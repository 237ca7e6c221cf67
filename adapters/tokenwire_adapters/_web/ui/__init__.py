"""What protocols of user interfaces share: runs of agents, each encoded as one message."""
