"""Stands in for StackStorm's client where that is not installed: executions, keys and webhooks."""
