"""Stands in for StackStorm's st2tests where that is not installed: its base classes."""
