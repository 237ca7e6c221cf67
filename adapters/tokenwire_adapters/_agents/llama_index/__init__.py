"""Parts of the LlamaIndex adapter: spans, streams, responses to parts."""
