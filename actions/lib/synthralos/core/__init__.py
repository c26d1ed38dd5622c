"""What every room uses: identifiers, errors, timestamps, JSON, sealing, redaction, sanitizing, failures."""
