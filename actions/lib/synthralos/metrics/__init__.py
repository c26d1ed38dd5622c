"""Totals of all runs in Prometheus's format: added up by one writer, queried and pushed."""
