"""A run as it can be observed: its log, its trace and the cost of its LLM calls."""
