"""What the LangChain adapter is made of."""
