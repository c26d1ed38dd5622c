"""Totals of all runs, added up by one writer, and how they are read and pushed."""
