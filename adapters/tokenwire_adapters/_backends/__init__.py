"""What the backends are made of, one package a service."""
