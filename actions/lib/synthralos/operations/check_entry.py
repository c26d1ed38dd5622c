"""An entry of the result of `pack.check`."""

from typing import Optional, TypedDict

OK, FAILED, MISSING = "ok", "failed", "not_configured"


class _Required(TypedDict):
    name: str
    status: str
    details: str


class CheckEntry(_Required, total=False):
    """What was checked, its status (OK, FAILED or MISSING), and the way out of a failure."""

    hint: str


def check_entry(name: str, status: str, details: str, hint: Optional[str] = None) -> CheckEntry:
    """Build an entry."""
    entry: CheckEntry = {"name": name, "status": status, "details": details}
    if hint:
        entry["hint"] = hint
    return entry
