"""Puts the pack on the path before the tests here are read."""
import fixtures  # noqa: F401
