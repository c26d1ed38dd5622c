"""An entry of the result of `pack.check`."""

from typing import Optional, TypedDict

OK, FAILED, MISSING = "ok", "failed", "not_configured"


class _Required(TypedDict):
    name: str
    status: str
    details: str


class CheckEntry(_Required, total=False):
    """What was checked, its status (OK, FAILED or MISSING), and the way out of a failure.

    `models`: of a provider, {configured model: whether it is listed}; None if the list is unknown.
    """

    hint: str
    models: Optional[dict[str, bool]]


def check_entry(name: str, status: str, details: str, hint: Optional[str] = None) -> CheckEntry:
    """Build an entry."""
    entry: CheckEntry = {"name": name, "status": status, "details": details}
    if hint:
        entry["hint"] = hint
    return entry
