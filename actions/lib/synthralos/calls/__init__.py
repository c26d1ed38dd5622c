"""Calls to what may be broken: the agent platform, LLM providers and routes, under a deadline."""
