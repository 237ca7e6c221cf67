"""What the LlamaIndex adapter is made of."""
