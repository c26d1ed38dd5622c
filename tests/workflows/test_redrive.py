"""recovery.redrive, on st2local: after an outage, failed runs once more."""
import pytest
from fixtures.waiting import PATIENCE_SECONDS

from sandbox import content_policy, rate_limit, status

GPT4 = "llm:openai/gpt-4"


@pytest.fixture
def outage(world):
    """outage(number, fault) -> the ids of runs of llm_retry that failed during an outage."""
    def fail(number, fault=None, prompt="Hello %d", **parameters):
        world.box.script(GPT4, [fault or rate_limit()], forever=True)
        runs = []
        for index in range(number):
            request = {"prompt": prompt % index, "model": "gpt-4"}
            execution, _ = world.run("llm_retry", **dict(dict(
                original_request=request, failure_reason="rate limit", max_retries=0), **parameters))
            assert execution["status"] == "failed", execution["result"]
            runs.append(execution["id"])
        world.box.reset()
        return runs

    return fail


def redrive(world, **parameters):
    execution, output = world.run("recovery.redrive", **dict(
        {"dry_run": False, "per_minute": 600}, **parameters))
    return execution, output["report"]


def test_smoke(world, outage):
    runs = outage(3)
    execution, report = redrive(world, dry_run=True)
    print(report)
    execution, report = redrive(world)
    print(execution["status"], report)
    print(world.local.delays)
    print([call.body["messages"] for call in world.box.calls_to(GPT4)])
    execution, report = redrive(world)
    print(execution["status"], report)
    assert 0
