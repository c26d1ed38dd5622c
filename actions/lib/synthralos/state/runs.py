"""One summary per run: what learning and metrics are computed from. It holds no text."""

import json

from synthralos.names import key_part
from synthralos.state.datastore import PREFIX, time_key

FORMAT = 1
KEPT_SECONDS = 7 * 24 * 3600


def summarise(store, run, now, **facts):
    """Writes the summary of the run `run`.

    :param facts: workflow, outcome ("recovered" or "failed"), failure_type, cause, attempts,
        repeats, duration in seconds, targets tried; numbers, enums and names.
    """
    value = dict(facts, v=FORMAT, run=run)
    name = PREFIX + "run." + time_key(now, key_part(run or "unknown"))
    return store.put(name, json.dumps(value, separators=(",", ":"), sort_keys=True), KEPT_SECONDS)
