"""Calls that may fail, under a deadline: to the agent platform, LLM providers and routes."""
