"""The protocols of LangChain's clients, for agents that need no LangGraph."""
