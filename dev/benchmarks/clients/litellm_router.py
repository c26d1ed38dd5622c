"""LiteLLM's Router against the floor: `python -m benchmarks.clients.litellm_router URL N`.

Runs in the environment of peers.litellm(). Prints {name: [seconds, one for each of N rounds]}. With
N = 0 it is one call instead, with the Router's own defaults and a primary that answers 429 with
`Retry-After: 30` each time: {"defaults": [seconds]}.
"""
import json
import os
import sys
import time

import litellm
from litellm import Router

from benchmarks.clients.bare import KEY, MESSAGES, floor
from benchmarks.measure import interleaved
from benchmarks.server import HEALTHY, LIMITED, LIMITED_30

WARM_UP = 20


def router(base, primary, **options):
    """Return a callable that calls the Router once, with `backup` as the fallback of `primary`."""
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": "openai/bench", "api_base": base + path, "api_key": KEY},
        }
        for name, path in (("primary", primary), ("backup", HEALTHY))
    ]
    litellm_router = Router(model_list=models, fallbacks=[{"primary": ["backup"]}], **options)

    def once():
        answer = litellm_router.completion(model="primary", messages=MESSAGES)
        assert answer.choices[0].message.content == "hello"

    return once


def main(base, count):
    litellm.suppress_debug_info = True
    # LiteLLM logs to both streams; keep its output out of the result.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    if count:
        tasks = {"floor": floor(base), "router": router(base, LIMITED, num_retries=0)}
        timings = interleaved(tasks, count, WARM_UP)
    else:
        ask = router(base, LIMITED_30)
        started_at = time.perf_counter()
        ask()
        timings = {"defaults": [time.perf_counter() - started_at]}
    print(json.dumps(timings), file=out, flush=True)
    # Its logging threads and open sessions would print errors at exit.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
