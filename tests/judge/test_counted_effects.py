"""Effects counted: an agent on a real LangGraph Server appends one line and takes longer than a
round waits; the process that waits is killed with -9 meanwhile, and the whole run is run again.

COUNTED_EFFECTS=50 tries that often; in the suite it is a few times.
"""
import functools
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from fixtures import PACK
from fixtures.agent_servers import KEY, langgraph, lines, started_runs
from fixtures.waiting import PATIENCE_SECONDS, let_pass, limit_under_test, until

from st2local import St2Local

TIMES = int(os.environ.get("COUNTED_EFFECTS") or 3)
AT_ONCE = 3
AGENT_SECONDS = 8
HOLD_SECONDS_UNDER_TEST = 2
ROUND = "synthralos.execute_recovery"
FAILED = {"agent_id": "bot", "failure_type": "error"}


@pytest.fixture(scope="module")
def base_url(tmp_path_factory, effects):
    with langgraph(tmp_path_factory.mktemp("langgraph"), effects) as base_url:
        yield base_url


@pytest.fixture
def local(base_url, tmp_path):
    platform = {
        "name": "graphs", "api": "langgraph", "base_url": base_url, "token": KEY,
        "hold_seconds": limit_under_test(HOLD_SECONDS_UNDER_TEST),
    }
    config = {
        "platforms": [platform], "agents": {"bot": {"platform": "graphs", "agent": "agent"}},
    }
    with St2Local(PACK, config, tmp_path / "state") as local:
        yield local


def has_ended(execution):
    return execution.status not in ("requested", "running")


def kill_round(local, run, pause):
    """Kill the process of a round with -9, `pause` seconds after it was seen, and return the run,
    which fails with it. One that had its result by then, on a busy machine, is followed by another.
    """
    def next_round():
        children = local.executions(parent=run.id)
        rounds = [
            child["id"] for child in children
            if (child["action"]["ref"], child["status"]) == (ROUND, "running")
        ]
        return local.live(rounds[0]) if rounds else None

    has_result = True
    while has_result:
        child = until(next_round, "a round runs")
        let_pass(pause)
        child.run.kill()
        until(functools.partial(has_ended, child), "the round has ended")
        has_result, pause = isinstance((child.result or {}).get("result"), dict), 0
    execution = run.wait(PATIENCE_SECONDS)
    assert execution["status"] == "failed", execution["result"]
    return execution


def pay(local, effects, number):
    """Let the agent pay while processes die, and return (query, line, execution) of the last run.

    :param number: which of TIMES; it says when and how often a process dies.
    """
    line = "paid-%d" % number
    query = "pay %d %s" % (AGENT_SECONDS, line)
    # Within the time that a round waits.
    pause = limit_under_test(1.5) * number / max(TIMES - 1, 1)
    run = local.start("synthralos.agent_recovery", dict(FAILED, original_query=query))
    until(lambda: lines(effects, line), "the agent works")
    dead = kill_round(local, run, pause)
    if number % 2:
        dead = kill_round(local, local.re_run(dead["id"]), 0)
    return query, line, local.re_run(dead["id"]).wait(PATIENCE_SECONDS)


def test_one_line_one_start_and_the_answer(local, base_url, effects):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda number: pay(local, effects, number), range(TIMES)))
    failures = []
    for query, line, execution in results:
        output = (execution["result"] or {}).get("output") or {}
        seen = (
            execution["status"], (output.get("recovery_result") or {}).get("output"),
            lines(effects, line), started_runs(base_url, query), output.get("attempts"),
        )
        print(query, seen)
        if seen != ("succeeded", "paid %s" % line, 1, 1, 1):
            failures.append((query, seen))
    assert not failures
