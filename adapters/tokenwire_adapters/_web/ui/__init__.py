"""What the encoders of user interface protocols share: one run, told as one message."""
