"""Whether a response of Prometheus, or of what speaks its API, is a whole one."""

from collections.abc import Mapping
from typing import Any

# What Prometheus remarks on a query, rather than on data that it could not read.
_REMARKS = ("PromQL info:", "PromQL warning:")


def is_partial(body: Mapping[str, Any]) -> bool:
    """Return whether a response says that it lacks data, as that of a store that is unavailable."""
    warnings = body.get("warnings")
    return bool(body.get("isPartial")) or any(
        not str(warning).startswith(_REMARKS)
        for warning in (warnings if isinstance(warnings, list) else [])
    )
