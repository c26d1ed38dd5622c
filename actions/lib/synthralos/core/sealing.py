"""Cases: text in a form that no template language evaluates.

A case is base64url of zlib of JSON, so it consists of `A-Za-z0-9_=-` only. Orquesta and StackStorm
evaluate YAQL and Jinja in the values that cross a workflow; a case has nothing to evaluate.
"""

import base64
import binascii
import json
import re
import zlib

from synthralos.core import bounded_json
from synthralos.core.errors import InvalidInput

PATTERN = "^[A-Za-z0-9_=-]*$"
STORED = "synthralos.case."
INLINE_BYTES = 32 * 1024
BODY_SECONDS = 24 * 3600
OPENED_BYTES = 64 * 1024 * 1024
_CASE = re.compile(r"[A-Za-z0-9_=-]+\Z")


def is_case(value):
    """Whether `value` has the form of a case."""
    return isinstance(value, str) and _CASE.match(value) is not None


def seal(content, store=None, key=None):
    """The case that holds `content`, a JSON value.

    A case above INLINE_BYTES is put into `store` (any object with `put(name, value, ttl)`) under
    `key` for a day, and the returned case holds that key. Without a store, or when the store
    raises, the case stays whole: large, but complete.
    """
    case = _encode(content)
    if store is None or key is None or len(case) <= INLINE_BYTES:
        return case
    if not store.put(key, case, ttl=BODY_SECONDS):
        return case
    return _encode({"stored": key})


def unseal(case, store=None, field="case"):
    """The content of `case`. InvalidInput when it is no case, or its stored body is gone."""
    content = _decode(field, case)
    if isinstance(content, dict) and set(content) == {"stored"}:
        key = content["stored"]
        # Only bodies of cases: a forged reference must not read any other key.
        ours = isinstance(key, str) and key.startswith(STORED)
        body = store.get(key) if ours and store is not None else None
        if body is None:
            raise InvalidInput(
                field,
                key,
                "its body is not in the datastore",
                "Stored cases live for a day and need a datastore that answers; start a new run",
            )
        content = _decode(field, body)
    return content


def _encode(content):
    # ensure_ascii keeps lone surrogates, which UTF-8 cannot carry.
    text = json.dumps(content, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(zlib.compress(text.encode("ascii"))).decode("ascii")


def _decode(field, case):
    # The value is not shown: it may come from the datastore.
    refused = InvalidInput(
        field, None, "is not a case", "Pass on a case that another action returned"
    )
    if not is_case(case):
        raise refused
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.urlsafe_b64decode(case), OPENED_BYTES)
        if not unpacker.eof:
            raise refused
        return bounded_json.loads(text)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise refused from error
