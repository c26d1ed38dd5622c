"""Shared by every room: identifiers, errors, timestamps, JSON, sealing, redaction, failures."""
