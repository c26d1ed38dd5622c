"""Recovers failing AI agents, LLM calls and requests. Nothing here imports StackStorm."""
