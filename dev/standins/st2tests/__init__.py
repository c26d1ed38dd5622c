"""Stands in for StackStorm's st2tests where that is not installed: the base classes of its tests."""
