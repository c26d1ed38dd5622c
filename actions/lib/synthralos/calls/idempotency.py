"""The key by which a server recognises a repeated request."""

import hashlib
import json
import re
from typing import Any, Optional

HEADER = "Idempotency-Key"
_PREFIX = "synthralos-"
_KEY = re.compile(_PREFIX + r"[0-9a-f]{40}\Z")


def key(run: str, method: str, path: str, body: Any, model: Optional[str] = None) -> str:
    """Return a key, the same for the same request of the same run at any region or provider.

    :param run: the execution id.
    :param body: a JSON value.
    """
    canonical = json.dumps([run, method, path, body, model], sort_keys=True, separators=(",", ":"))
    return _PREFIX + hashlib.sha256(canonical.encode("ascii")).hexdigest()[:40]


def is_key(text: str) -> bool:
    """Return whether a text has the form of a key that `key` returns."""
    return _KEY.match(text) is not None
