"""Stands in for StackStorm's st2common where that is not installed: what actions import of it."""
