"""Recovers failing AI agents, LLM calls and requests. Plain Python: nothing here imports StackStorm."""
