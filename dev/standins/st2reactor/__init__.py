"""Stands in for StackStorm's sensor process where that is not installed."""
