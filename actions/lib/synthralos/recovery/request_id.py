"""What identifies a request to an agent, so that it is not served twice."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from synthralos.core.errors import InvalidInput
from synthralos.runtime import run_parameters
from synthralos.storage.stackstorm_api import ExecutionNotFound

if TYPE_CHECKING:
    from synthralos.runtime.environment import Environment

MAX_RERUNS = 20
MAX_KEY_CHARS = 256


def of_run(
    env: "Environment", context: Mapping[str, Any], execution: Optional[Mapping[str, Any]]
) -> str:
    """Return the id of the request that a run serves.

    It is the caller's `context.idempotency_key`, hashed; otherwise the first run of which this one
    is a re-run, of a re-run. Costs an API call for each re-run.

    :param execution: of the run, as StackStorm's API returns it, or None.
    :raises InvalidInput: the key is not a text that can be one.
    """
    key = context.get("idempotency_key")
    if key is not None:
        if not isinstance(key, str) or not key.strip() or len(key) > MAX_KEY_CHARS:
            hint = "Give a text of 1 to %d characters, the same for the same request"
            raise InvalidInput(
                "context.idempotency_key", key, "is not a key", hint % MAX_KEY_CHARS
            )
        return "key-" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]
    return "run-" + _first_run(env, execution)


def is_rerun(execution: Optional[Mapping[str, Any]]) -> bool:
    """Return whether a run is a re-run of another one."""
    return run_parameters.origin_of(execution) is not None


def _first_run(env: "Environment", execution: Optional[Mapping[str, Any]]) -> str:
    first, current = str(env.run or "local"), execution
    api: Any = env.api
    for _ in range(MAX_RERUNS):
        origin = run_parameters.origin_of(current)
        if origin is None:
            break
        first = origin
        try:
            current = None if api is None else api.execution(origin, "context")
        except ExecutionNotFound:
            break
    return first
