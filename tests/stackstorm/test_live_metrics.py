"""Metrics on a live StackStorm: counted once by the rule's roll-ups, pushed, and queried.

With Debian's prometheus and prometheus-pushgateway; without them nothing is pushed.
"""
import time

import pytest
from fixtures.prometheus import PROMETHEUS, PUSHGATEWAY, Gateway
from fixtures.waiting import LIVE_PATIENCE_SECONDS, until
from test_live_automation import enabled

from sandbox import rate_limit

LLM = {"original_request": {"prompt": "Hello", "model": "gpt-4"}, "failure_reason": "Server error",
       "fallback_models": ["claude-3-haiku"]}
COMPLETED = "synthralos_runs_completed_total"
AGENT_CALLS = "synthralos_agent_calls_total"


def total(st2, name, **labels):
    execution = st2.wait(st2.start("metrics.get", format="json", prefix=name, labels=labels))
    assert execution["status"] == "succeeded", execution["result"]
    metrics = execution["result"]["result"]["metrics"]
    return sum(sample["value"] for metric in metrics for sample in metric["samples"])


def counted(st2, execution_id):
    execution = st2.wait(execution_id)
    # What the policy has cancelled has no result at all.
    return execution["status"], ((execution.get("result") or {}).get("result") or {})


def count_all(st2):
    """Counts what other tests have left, which may take more than one roll-up."""
    until(lambda: counted(st2, st2.start("metrics.roll_up"))[1].get("left") is False,
          "all is counted", seconds=LIVE_PATIENCE_SECONDS)


def test_overlapping_roll_ups_count_each_run_once(st2, box):
    count_all(st2)
    before = {name: total(st2, name) for name in (COMPLETED, "synthralos_fallbacks_total")}
    box.script("llm:openai/gpt-4", [rate_limit(retry_after=30)])
    runs = [st2.start("llm_retry", **LLM) for _ in range(4)]
    assert {st2.wait(run)["status"] for run in runs} == {"succeeded"}
    outcomes = [counted(st2, run) for run in [st2.start("metrics.roll_up") for _ in range(6)]]
    statuses = [status for status, _ in outcomes]
    # The policy cancels a second one; whoever came through all the same was alone, or busy.
    assert set(statuses) <= {"succeeded", "canceled"} and "succeeded" in statuses, outcomes
    results = [result for status, result in outcomes if status == "succeeded"]
    if all(rollup["busy"] for rollup in results):
        results.append(counted(st2, st2.start("metrics.roll_up"))[1])
    assert sum(rollup["counted"] for rollup in results) == 8, outcomes
    assert total(st2, COMPLETED) - before[COMPLETED] == 4
    assert total(st2, "synthralos_fallbacks_total") - before["synthralos_fallbacks_total"] >= 1


@pytest.mark.skipif(
    not (PROMETHEUS and PUSHGATEWAY),
    reason="prometheus and prometheus-pushgateway are not installed (Debian packages)",
)
def test_the_rule_s_roll_ups_are_pushed_and_can_be_queried(st2, box, tmp_path):
    gateway = Gateway(tmp_path)
    config = dict(
        box.pack_config(),
        metrics={"pushgateway": {"url": gateway.address, "job": "synthralos", "instance": "live"}},
    )
    since = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 1))
    try:
        gateway.start_pushgateway()
        gateway.start_prometheus()
        st2.call("PUT", "/configs/synthralos", json=config)
        count_all(st2)
        before = total(st2, COMPLETED, workflow="llm_retry")
        # Of all agents together: one of more than fifty is counted among the others.
        calls = total(st2, AGENT_CALLS, result="success")
        assert st2.run("llm_retry", **LLM)[0]["status"] == "succeeded"
        failed = {"agent_id": "metered", "failure_type": "error", "original_query": "q"}
        assert st2.run("agent_recovery", **failed)[0]["status"] == "succeeded"

        def by_rule():
            rows = st2.call("GET", "/executions", params={
                "action": "synthralos.metrics.roll_up", "timestamp_gt": since, "limit": 100})
            return [row for row in rows
                    if row.get("rule") and row["status"] == "succeeded"]

        with enabled(st2, "metrics_roll_up"):
            until(lambda: len(by_rule()) >= 2, "the rule has rolled up twice",
                  seconds=LIVE_PATIENCE_SECONDS)
        assert all(row["result"]["result"]["push"]["pushed"] for row in by_rule())
        assert total(st2, COMPLETED, workflow="llm_retry") == before + 1
        query = 'sum(%s{workflow="llm_retry",instance="live"})' % COMPLETED
        until(lambda: gateway.query(query), "Prometheus has scraped it")
        assert gateway.query(query)[0][1] == before + 1
        assert total(st2, AGENT_CALLS, result="success") == calls + 1
        agents = 'sum(%s{result="success",instance="live"})' % AGENT_CALLS
        until(lambda: gateway.query(agents)[0][1] == calls + 1, "Prometheus has the agent's call")
    finally:
        st2.call("PUT", "/configs/synthralos", json=box.pack_config())
        gateway.close()
