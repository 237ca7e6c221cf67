"""Parts of the LangChain adapter: the tree of runs, messages to parts, tools, quirks."""
