"""The names of models in the listings of providers."""

from typing import Any, Optional


def names(listing: Any, key: str, name: str) -> Optional[list[str]]:
    """Return the names in {key: [{name: ...}]}, or None if a listing has another form."""
    entries = listing.get(key) if isinstance(listing, dict) else None
    if not isinstance(entries, list):
        return None
    values = [entry.get(name) for entry in entries if isinstance(entry, dict)]
    return [value for value in values if isinstance(value, str)]
