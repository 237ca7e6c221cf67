"""Patches SDKs that Stainless generates: those of OpenAI and Anthropic."""
