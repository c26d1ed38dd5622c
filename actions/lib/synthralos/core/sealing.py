"""Cases: the state of a run between its actions, in a form that no template language evaluates.

A case is base64url of zlib of JSON, so it consists of `A-Za-z0-9_=-` only. Orquesta and StackStorm
evaluate YAQL and Jinja in the values that cross a workflow; a case contains nothing to evaluate.
"""

import base64
import binascii
import json
import re
import zlib
from typing import Any, Optional, Protocol

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput

PATTERN = "^[A-Za-z0-9_=-]*$"
STORED_PREFIX = "synthralos.case."
MAX_INLINE_BYTES = 32 * 1024
# Longer than any run.
BODY_TTL_SECONDS = 2 * 24 * 3600
MAX_OPENED_BYTES = 64 * 1024 * 1024
_CASE = re.compile(r"[A-Za-z0-9_=-]+\Z")


class CaseStore(Protocol):
    """Where the bodies of large cases are stored."""

    def get(self, name: str) -> Optional[str]:
        """Return the value under `name`, or None if it does not exist."""

    def put(self, name: str, value: str, ttl: int) -> Any:
        """Store `value` for `ttl` seconds; return a false value if it was not stored."""


def is_case(value: Any) -> bool:
    """Return whether `value` has the form of a case."""
    return isinstance(value, str) and _CASE.match(value) is not None


def seal(
    content: Any,
    store: Optional[CaseStore] = None,
    key: Optional[str] = None,
    max_bytes: int = MAX_INLINE_BYTES,
    seconds: int = BODY_TTL_SECONDS,
) -> str:
    """Return the case that holds `content`, a JSON value.

    A case above `max_bytes` is stored under `key` for `seconds`, and the returned case holds that
    key. Without a store, or if storing fails, the case stays complete, however large.
    """
    case = _encode(content)
    if store is None or key is None or len(case) <= max_bytes:
        return case
    if not store.put(key, case, ttl=seconds):
        return case
    return _encode({"stored": key})


def unseal(case: Any, store: Optional[CaseStore] = None, field: str = "case") -> Any:
    """Return the content of `case`.

    :raises InvalidInput: it is not a case, or its stored body does not exist any more.
    """
    content = _decode(field, case)
    if isinstance(content, dict) and set(content) == {"stored"}:
        key = content["stored"]
        body = None
        # Only bodies of cases: a forged reference must not read any other key.
        if store is not None and isinstance(key, str) and key.startswith(STORED_PREFIX):
            body = store.get(key)
        if body is None:
            raise InvalidInput(
                field,
                key,
                "its body is not in the datastore",
                "Stored cases live for two days and need a datastore that answers; start a new run",
            )
        content = _decode(field, body)
    return content


def _encode(content: Any) -> str:
    # ensure_ascii keeps lone surrogates, which UTF-8 cannot carry.
    text = json.dumps(content, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(zlib.compress(text.encode("ascii"))).decode("ascii")


def _decode(field: str, case: Any) -> Any:
    # The value is not shown: it may come from the datastore.
    invalid_case = InvalidInput(
        field, None, "is not a case", "Pass on a case that another action returned"
    )
    if not is_case(case):
        raise invalid_case
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.urlsafe_b64decode(case), MAX_OPENED_BYTES)
        if not unpacker.eof:
            raise invalid_case
        return bounded_json.loads(text)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise invalid_case from error
