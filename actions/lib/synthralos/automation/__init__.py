"""Starts runs from alerts and failures, and limits how many it starts."""
