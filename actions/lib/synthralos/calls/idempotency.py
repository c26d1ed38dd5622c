"""The key by which the other side knows a request that it has seen before."""

import hashlib
import json

HEADER = "Idempotency-Key"


def key(run, method, path, body, model=None):
    """The same for the same request of the same run, whatever region or provider it goes to.

    :param run: the execution id; body: a JSON value.
    """
    canonical = json.dumps([run, method, path, body, model], sort_keys=True, separators=(",", ":"))
    return "synthralos-" + hashlib.sha256(canonical.encode("ascii")).hexdigest()[:40]
