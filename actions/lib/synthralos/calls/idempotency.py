"""The key by which a server recognises a repeated request."""

import hashlib
import json

HEADER = "Idempotency-Key"


def key(run, method, path, body, model=None):
    """Return a key, the same for the same request of the same run at any region or provider.

    :param run: the execution id.
    :param body: a JSON value.
    """
    canonical = json.dumps([run, method, path, body, model], sort_keys=True, separators=(",", ":"))
    return "synthralos-" + hashlib.sha256(canonical.encode("ascii")).hexdigest()[:40]
