"""The base classes of sensors."""
