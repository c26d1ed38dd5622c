"""Whole runs on st2local: seconds until an answer, and the number of executions."""
import itertools
import pathlib
import time

from benchmarks import noops
from benchmarks.figures import Figure
from benchmarks.measure import interleaved, median, over, ratio
from benchmarks.server import HEALTHY, LIMITED_30
from sandbox import Sandbox, agent_failed, ok, rate_limit, status
from st2local import St2Local

PACK = pathlib.Path(__file__).resolve().parent.parent.parent
TIME = "Whole llm_retry on st2local (floor: the same workflow of two no-op Python actions)"
COUNT = "Executions per recovery, the workflow's own not counted"
ANSWER_SECONDS = 1.0
ROUNDS = 9


def request(model="bench", fallback="backup"):
    """The parameters of an llm_retry."""
    return {
        "original_request": {"prompt": "Say hello", "model": model},
        "failure_reason": "Rate limit exceeded",
        "fallback_models": [fallback],
    }


def config(base, primary):
    """A configuration with the model `bench` at `primary`, and `backup`, which answers."""
    entries = [("first", primary, "bench"), ("second", HEALTHY, "backup")]
    return {
        "providers": [
            {"name": name, "base_url": base + path, "api_key": "sk-benchmark",
             "models": [{"name": model}]}
            for name, path, model in entries
        ]
    }


def times(base, folder):
    """Figures. :param base: of the server; folder: an empty one, for state."""
    pair = noops.write_pack(folder / "pack", PACK)
    fresh = itertools.count()

    def run(pack, settings, ref, parameters):
        """Seconds from the request to the end of the run; each run begins with an empty store."""
        with St2Local(pack, settings, folder / ("state-%d" % next(fresh))) as local:
            assert local.api_url
            started_at = time.perf_counter()
            execution = local.run(ref, parameters)
            seconds = time.perf_counter() - started_at
        assert execution["status"] == "succeeded", execution["result"]
        return seconds

    answering, limited = config(base, HEALTHY), config(base, LIMITED_30)
    timings = interleaved({
        "floor": lambda: run(pair, {}, noops.WORKFLOW, request()),
        "good": lambda: run(PACK, answering, "synthralos.llm_retry", request()),
        "limited": lambda: run(PACK, limited, "synthralos.llm_retry", request()),
    }, ROUNDS)
    floor = timings["floor"]
    figures = [Figure(TIME, "two no-op Python actions", median(floor), "s", 1.0, "x")]
    figures.append(
        Figure(
            TIME,
            "the primary answers",
            median(timings["good"]),
            "s",
            ratio(timings["good"], floor),
            "x",
            note="%+.0f ms" % (1000 * over(timings["good"], floor)),
        )
    )
    figures.append(Figure(
        TIME, "the primary answers 429 each time (30 s)", median(timings["limited"]), "s",
        budget=ANSWER_SECONDS, note="%.1f x the floor" % ratio(timings["limited"], floor),
    ))
    return figures


def counts(folder):
    """Figures. :param folder: an empty one, for state."""
    agent = {"agent_id": "bench", "failure_type": "timeout", "original_query": "What is 6 x 7?",
             "retry_delay": 0}
    model = request("gpt-4", "claude-3-haiku")
    rerouted = {
        "original_request": {"endpoint": "/api/v1/llm", "model": "gpt-4"},
        "failure_reason": "Region unavailable",
        "fallback_regions": ["eu-west-1"],
    }
    again = [agent_failed(), status(500), ok(text="42")]
    cases = [
        ("agent_recovery, first attempt", "agent_recovery", agent, "platform", [ok()], 3),
        ("agent_recovery, third attempt", "agent_recovery", agent, "platform", again, 5),
        ("llm_retry, the fallback answers", "llm_retry", model, "llm:openai/gpt-4",
         [rate_limit(retry_after=30)], 2),
        ("reroute_request, the second region answers", "reroute_request", rerouted,
         "route:openai/us-east-1", [status(503)], 2),
    ]
    figures = []
    with Sandbox() as box:
        for number, (label, workflow, parameters, target, steps, maximum) in enumerate(cases):
            box.reset()
            box.script(target, steps, forever=len(steps) == 1)
            with St2Local(PACK, box.pack_config(), folder / ("count-%d" % number)) as local:
                execution = local.run("synthralos." + workflow, parameters)
                task_count = len(local.executions(parent=execution["id"]))
            assert execution["status"] == "succeeded", execution["result"]
            figures.append(Figure(COUNT, label, task_count, "executions", budget=maximum))
    return figures
